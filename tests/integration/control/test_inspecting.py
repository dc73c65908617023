"""What Celery's client and command line learn of a turbo worker: one worker for all, idle between the tests."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.integration.control.conftest import NODE, Post
from turbo import __version__

_ROW = {
    "id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info", "worker_pid",
}  # fmt: skip


@pytest.mark.row("RC2", "RC32")
def test_celerys_command_line_is_answered(post: Post) -> None:
    where = ("-t", "20", "-d", NODE)
    status, stats, queues, beat = post.celery(
        ("status", *where),
        ("inspect", *where, "-j", "stats"),
        ("inspect", *where, "active_queues"),
        ("control", *where, "heartbeat"),
    )
    assert "1 node online." in status
    assert json.loads(stats)[NODE]["pool"]["max-concurrency"] == 2
    assert "'routing_key': 'celery'" in queues
    assert f"{NODE}: OK" in beat


@pytest.mark.row("RC1", "RC4", "RC12")
def test_a_running_task_is_shown_with_its_child(post: Post) -> None:
    fifo = post.fifo()
    task = post.client.send_task("controlled.wait", [str(fifo)], {"more": [1, None, "é"]}, priority=3)
    try:
        post.wait_active(task.id)
        (row,) = post.ask("active")
        assert set(row) == _ROW
        assert (row["args"], row["kwargs"]) == ([str(fifo)], {"more": [1, None, "é"]})
        assert (row["name"], row["type"], row["hostname"]) == ("controlled.wait", "controlled.wait", NODE)
        assert row["acknowledged"] is True
        assert row["delivery_info"] == {
            "exchange": "",
            "routing_key": "celery",
            "priority": 3,
            "redelivered": False,
        }
        os.kill(row["worker_pid"], 0)
        assert 0 <= time.time() - row["time_start"] < 60
        asked = post.ask("query_task", ids=[task.id, "unknown"])
        assert set(asked) == {task.id}
        assert asked[task.id][0] == "active"
        assert {**asked[task.id][1], "time_start": None} == {**row, "time_start": None}
        (safe,) = post.ask("active", safe=True)
        assert safe["kwargs"] == "{'more': [1, None, 'é']}"
    finally:
        fifo.write_text("done")
    assert task.get(timeout=60) == "done"
    wait_until("nothing runs", lambda: post.ask("dump_active") == [], 60)
    assert post.ask("query_task", ids=task.id) == {}


@pytest.mark.row("RC5", "RC12")
def test_what_waits_for_a_child_is_reserved(post: Post) -> None:
    fifos = [post.fifo() for _ in range(3)]
    ids = [post.send("late", str(fifo)) for fifo in fifos]
    try:
        wait_until("one waits", lambda: [row["id"] for row in post.ask("reserved")] == [ids[2]], 60)
        (row,) = post.ask("reserved")
        assert set(row) == _ROW
        assert (row["acknowledged"], row["time_start"], row["worker_pid"]) == (False, None, None)
        assert post.ask("query_task", ids=ids)[ids[2]][0] == "reserved"
        assert {row["id"] for row in post.ask("active")} == set(ids[:2])
        assert not any(row["acknowledged"] for row in post.ask("active"))
    finally:
        for fifo in fifos:
            fifo.write_text("done")
    for identifier in ids:
        post.wait_state(identifier, "SUCCESS")


@pytest.mark.row("RC6", "RC12")
def test_what_waits_for_its_time_is_scheduled(post: Post) -> None:
    first = post.send("noop", 1, countdown=240)
    later = post.send("noop", {"long": "x" * 20_000}, countdown=280)
    wait_until("both are held", lambda: len(post.ask("scheduled")) == 2, 60)
    rows = post.ask("scheduled")
    assert [set(row) for row in rows] == [{"eta", "priority", "request"}] * 2
    assert [row["request"]["id"] for row in rows] == [first, later]
    assert datetime.fromisoformat(rows[0]["eta"]).timestamp() > time.time() + 100
    assert rows[0]["priority"] == 6
    assert rows[0]["request"]["args"] == [1]
    # too much to decode for a row: what its sender wrote of it
    assert isinstance(rows[1]["request"]["args"], str)
    assert post.ask("query_task", ids=[uuid.UUID(first)])[first][0] == "scheduled"
    assert post.ask("revoke", task_id=[first, later])
    wait_until("none is held", lambda: post.ask("scheduled") == [], 60)


@pytest.mark.row("RC3")
def test_registered_tasks(post: Post) -> None:
    names = post.ask("registered")
    ours = [name for name in names if name.startswith("controlled.")]
    assert ours == sorted(ours)
    assert "controlled.wait" in ours
    assert not any(name.startswith("celery.") for name in names)
    assert "celery.accumulate" in [name.split()[0] for name in post.ask("dump_tasks", builtins=True)]
    assert "controlled.late [acks_late=True]" in post.ask("registered", taskinfoitems=["acks_late"])


@pytest.mark.row("RC8")
def test_stats_have_what_monitors_show(post: Post) -> None:
    before = post.ask("stats")["total"].get("controlled.noop", 0)
    for _ in range(3):
        post.send("noop")
    wait_until("three more are counted", lambda: post.ask("stats")["total"].get("controlled.noop", 0) == before + 3, 60)
    stats = post.ask("stats")
    assert {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"} <= set(stats)
    assert isinstance(stats["clock"], str)
    assert stats["pool"]["max-concurrency"] == 2
    assert len(stats["pool"]["processes"]) == 2
    assert set(stats["pool"]) == {
        "implementation", "max-concurrency", "processes", "max-tasks-per-child", "put-guarded-by-semaphore",
        "timeouts", "writes",
    }  # fmt: skip
    assert stats["broker"]["port"] == post.rabbitmq.port
    assert stats["broker"]["transport"] == "amqp"
    assert "password" not in json.dumps(stats)
    assert stats["rusage"]["maxrss"] > 0


@pytest.mark.row("RC9")
def test_active_queues_are_as_kombu_writes_queues(post: Post) -> None:
    (queue,) = post.ask("active_queues")
    wanted = dict(post.client.amqp.queues["celery"].as_dict(recurse=True))
    assert set(queue) == set(wanted)
    assert set(queue["exchange"]) == set(wanted["exchange"])
    same = ("name", "routing_key", "durable", "exclusive", "auto_delete", "no_ack", "bindings")
    assert {key: queue[key] for key in same} == {key: wanted[key] for key in same}
    assert queue["exchange"]["type"] == "direct"


@pytest.mark.row("RC10", "RC11")
def test_configuration_and_report_hide_secrets(post: Post) -> None:
    conf = post.ask("conf")
    report = post.ask("report")["ok"]
    assert "amqp://" in conf["broker_url"]
    assert "task_default_queue" in post.ask("dump_conf", with_defaults=True)
    password = post.vhost.split("//")[1].split(":")[1].split("@")[0]
    for text in (conf["broker_url"], report):
        assert f":{password}@" not in text
    assert "celery" in report
    assert f"turbo {__version__}\n" in report


@pytest.mark.row("RC15")
def test_memory_is_sampled(post: Post) -> None:
    sample = post.ask("memsample")
    assert re.fullmatch(r"[\d.]+MB", sample)
    assert sample in post.ask("memdump", samples=5)


@pytest.mark.row("RC15")
def test_objects_are_drawn_where_the_machine_can_draw(post: Post) -> None:
    reply = post.ask("objgraph", type="ChildProcess" if post.kind == "turbo" else "Request", num=5, max_depth=3)
    if importlib.util.find_spec("objgraph") is None:
        assert reply == {"error": "ImportError('Requires the objgraph library')"}
    elif shutil.which("dot") is None:
        assert reply == {"error": "RuntimeError('Requires dot, a program of Graphviz')"}
    else:
        picture = Path(reply["filename"])
        assert picture.read_bytes().startswith(b"\x89PNG")
        picture.unlink()


@pytest.mark.row("RC29", "RC30")
def test_errors_are_replies(post: Post) -> None:
    assert post.ask("nosuch") == {"error": "KeyError('nosuch')"}
    assert "TypeError" in post.ask("query_task")["error"]
    assert "ValueError" in post.ask("revoke", task_id="x", signal="NOSUCH")["error"]
    assert post.ask("pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}
    assert post.ask("autoscale", max=3) == {"error": "ValueError('Autoscale not enabled')"}


@pytest.mark.row("RC31")
def test_commands_of_the_apps_own(post: Post) -> None:
    assert post.ask("greet", name="Ada") == {"ok": f"Ada greets {NODE} of controlled, told []"}
    assert post.ask("tell", what="news") == {"ok": NODE}
    assert post.ask("hail") == {"ok": f"nobody greets {NODE} of controlled, told ['news']"}
    assert "TypeError" in post.ask("tell")["error"]
    assert post.ask("nothing") == {"error": "KeyError('nothing')"}


@pytest.mark.row("RC1")
def test_only_those_who_are_meant_answer(post: Post) -> None:
    def pinged(**options: Any) -> list[dict[str, Any]]:
        # one more than may answer, so that the client waits out its time for a second answer
        replies: list[dict[str, Any]] = post.client.control.broadcast("ping", reply=True, **options)
        return replies

    everybody = [{NODE: {"ok": "pong"}}]
    assert pinged(timeout=20, limit=1) == everybody
    assert pinged(timeout=20, limit=1, pattern="one@*", matcher="glob") == everybody
    assert pinged(timeout=20, limit=1, pattern="o.e@h.*", matcher="pcre") == everybody
    assert pinged(timeout=0.5, pattern="two@*", matcher="glob") == []
    assert pinged(timeout=0.5, destination=["two@here"]) == []


@pytest.mark.row("RC13", "RC14", "EV17", "TM14")
def test_clocks_follow_one_another(post: Post) -> None:
    before = post.ask("clock")["clock"]
    post.client.control.mailbox.clock.adjust(before + 1000)
    after = post.ask("clock")["clock"]
    assert after > before + 1000
    reply = post.ask("hello", from_node="other@there", revoked=["from-other"])
    assert reply["clock"] > after
    assert "from-other" in reply["revoked"]
    # as workers up to Celery 5.6 send them: with the time of their own clock
    assert "older" in post.ask("hello", from_node="other@there", revoked={"older": [1.5, "older"]})["revoked"]
    assert post.ask("hello", from_node=NODE, revoked=[]) is None
    assert {"from-other", "older"} <= set(post.ask("revoked"))
