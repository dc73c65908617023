"""A worker that starts learns from the others what was revoked: beside turbo's workers and beside Celery's."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post

#: The one that starts second, with a queue of its own.
OTHER = "other@here"
CELERY = (sys.executable, "-W", "ignore", "-m", "celery")
#: Whoever asks waits for its neighbours as long as they need.
PATIENT = {"MINGLE_TIMEOUT": "30"}
#: Makes the broker close one worker's connection for remote control, and no other; how many there were.
_CLOSE_CONTROL = f"""
length([rabbit_networking:close_connection(P, <<"a test">>) || P <- rabbit_networking:connections(),
(catch begin [{{_, C}}] = rabbit_networking:connection_info(P, [client_properties]),
{{_, _, N}} = lists:keyfind(<<"connection_name">>, 1, C), N end) =:= <<"{OTHER} control">>])
""".replace("\n", " ")


@contextmanager
def celery_worker(post: Post, name: str, *options: str, **env: str) -> Iterator[WorkerProcess]:
    """A worker of Celery's with the same app, ready."""
    worker = WorkerProcess(
        "-A", "tests.integration.control.controlled", "worker", "-c", "1", "-n", name, "-l", "info", *options,
        directory=post.directory, env={**post.environment, "KIND": "celery", **env}, command=CELERY,
    )  # fmt: skip
    with worker:
        worker.wait_for_line(READY, 90)
        yield worker


def _discards_what_was_revoked_before(post: Post, *options: str) -> str:
    """Start another worker with the task of a revoked id in its queue; return what it wrote."""
    post.ask("revoke", task_id=["revoked-before"])
    clock = post.ask("clock")["clock"]
    post.send("wait", "/dev/null", task_id="revoked-before", queue="theirs")
    post.send("wait", "/dev/null", task_id="another", queue="theirs")
    with post.worker("-c", "1", "-Q", "theirs", *options, name=OTHER, env=PATIENT) as other:
        other.wait_for_line(READY, 60)
        other.wait_for_line(r"Discarding revoked task: controlled\.wait\[revoked-before\]", 60)
        post.wait_state("another", "SUCCESS")
        assert post.state("revoked-before") == "REVOKED"
        assert post.ask("revoked", OTHER) == {OTHER: ["revoked-before"]}
        assert post.ask("clock", OTHER)[OTHER]["clock"] > clock
        return other.output


@pytest.mark.row("TM14", "RC14", "EV17", "LG16")
@pytest.mark.parametrize("kind", ["turbo", "celery"])
def test_a_task_revoked_before_the_start_does_not_run(make_post: Callable[[str], Post], kind: str) -> None:
    post = make_post(kind)
    with post.worker("-c", "1") as worker:
        worker.wait_for_line(READY, 60)
        assert re.search("mingle: searching for neighbors\n.*mingle: all alone\n", worker.output)
        said = _discards_what_was_revoked_before(post)
        assert re.search("searching for neighbors\n(.*\n)*.*mingle: sync with 1 nodes\n.*mingle: sync complete\n", said)
        assert said.index("sync complete") < said.index(f"{OTHER} ready.")
        worker.wait_for_line(f"sync with {OTHER}")


@pytest.mark.row("TM14", "RC14", "EV17")
def test_beside_workers_of_celerys(make_post: Callable[[str], Post]) -> None:
    """Each learns from the other, whichever starts first."""
    post = make_post("celery")
    with celery_worker(post, NODE) as neighbor:
        said = _discards_what_was_revoked_before(post)
        assert "mingle: sync with 1 nodes" in said
        neighbor.wait_for_line(f"sync with {OTHER}", 60)
        with post.worker("-c", "1", "-Q", "theirs", name=OTHER) as other:
            other.wait_for_line(READY, 60)
            post.ask("revoke", OTHER, task_id=["known-to-turbo"])
            # It waits so long after each answer.
            with celery_worker(post, "third@here", "-Q", "nothing", MINGLE_TIMEOUT="5") as third:
                third.wait_for_line("mingle: sync with 2 nodes", 60)
                assert set(post.ask("revoked", "third@here")["third@here"]) == {"revoked-before", "known-to-turbo"}
            other.wait_for_line("sync with third@here", 60)


@pytest.mark.row("CL18", "TM14")
def test_without_mingle_no_worker_is_asked(make_post: Callable[[str], Post]) -> None:
    post = make_post("turbo")
    with post.worker("-c", "1") as worker, post.worker("-c", "1", "--without-mingle", name=OTHER) as other:
        worker.wait_for_line(READY, 60)
        other.wait_for_line(READY, 60)
        assert "mingle" not in other.output
        assert f"sync with {OTHER}" not in worker.output
        # It answers others nevertheless.
        assert post.ask("hello", OTHER, from_node="x@there", revoked=["told"])[OTHER]["revoked"] == ["told"]


@pytest.mark.row("TM14")
def test_a_worker_asks_again_after_a_lost_connection(make_post: Callable[[str], Post]) -> None:
    post = make_post("turbo")
    with post.worker("-c", "1") as worker, post.worker("-c", "1", name=OTHER, env=PATIENT) as other:
        worker.wait_for_line(READY, 60)
        other.wait_for_line(READY, 60)
        post.ask("revoke", task_id=["missed"])
        since = other.mark()
        assert post.rabbitmq.evaluate(_CLOSE_CONTROL) == "1"
        other.wait_for_line("mingle: sync complete", 60, since=since)
        assert post.ask("revoked", OTHER) == {OTHER: ["missed"]}


#: Answers of others, which may be anything.
_ANSWERS: list[object] = [
    {"number@there": {"revoked": 3, "clock": 1}},
    {"list@there": ["a"]},
    {"broken@there": {"error": "KeyError('hello')"}},
    {"some@there": {"revoked": ["good", 5, "x" * 300, "", None], "clock": 2**70}},
    {"twice@there": {"revoked": {"older": [1.5, "older"]}}, "two": {}},
    {"older@there": {"revoked": {"older": [1.5, "older"]}, "clock": "x"}},
    ["nothing"],
    None,
]


@pytest.mark.row("TM14", "RC14")
def test_answers_that_are_none_are_named_and_skipped(make_post: Callable[[str], Post]) -> None:
    post = make_post("turbo")
    connection = pika.BlockingConnection(pika.URLParameters(post.vhost))
    channel = connection.channel()
    channel.exchange_declare("celery.pidbox", "fanout")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "celery.pidbox")
    asked: list[str] = []

    def answer() -> None:
        for _method, _properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=60):
            request = json.loads(body or b"{}")
            if request.get("method") != "hello":
                continue
            asked.append(request["arguments"]["from_node"])
            where = request["reply_to"]
            for value in _ANSWERS:
                properties = pika.BasicProperties("application/json", "utf-8", {"ticket": request["ticket"]})
                channel.basic_publish(where["exchange"], where["routing_key"], json.dumps(value).encode(), properties)
            break
        connection.close()

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        with post.worker("-c", "1") as worker:
            worker.wait_for_line(READY, 60)
            wait_until("the answers are taken", lambda: set(post.ask("revoked")) == {"good", "older"}, 60)
            assert asked == [NODE]
            for node in ("number@there", "list@there", "broken@there"):
                worker.wait_for_line(f"mingle: sync with {node} failed, its answer is skipped", 60)
            worker.wait_for_line("mingle: 4 of the revoked ids of some@there are no ids", 60)
            # Two of them come after the last answer whose ids are taken.
            dropped = "A malformed message for remote control is dropped"
            wait_until("three are dropped", lambda: worker.output.count(dropped) == 3, 60)
            assert post.ask("clock")["clock"] < 2**62
            assert "Traceback" not in worker.output
    finally:
        answering.join(60)
