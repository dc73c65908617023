"""What a worker does by its options and its app's configuration, asked of two workers that stand side by side.

*wide* has three children and the queues of the seed's video and image tasks; *narrow* has one child, a window of one
message, no log level, and results ignored by a setting on its command line. Both consume the queue *shared*.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest

from tests.harness.processes import wait_until
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from tests.integration.worker.rows_app import app
from tests.integration.worker.site import READY, Site

HOST = socket.gethostname()
MODULE = "tests.integration.worker.rows_app"


class Two:
    """Both workers, and the app as their producer has it."""

    def __init__(self, site: Site, wide: WorkerProcess, narrow: WorkerProcess) -> None:
        self.site, self.wide, self.narrow = site, wide, narrow

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send a task where the app's configuration or ``options`` lead it; its id."""
        identifier = str(uuid.uuid4())
        app.send_task(task, args, task_id=identifier, **{"ignore_result": False, **options})
        return identifier

    def to_narrow(self, task: str, *args: Any, **options: Any) -> str:
        return self.send(task, *args, exchange="tasks", routing_key="misc.any", **options)

    def value(self, identifier: str) -> Any:
        """What a task returned."""
        document = self.site.wait_document(identifier)
        assert document["status"] == "SUCCESS", document
        return document["result"]

    def failure(self, identifier: str) -> tuple[str, list[Any]]:
        """Class and arguments of what a task ended with."""
        document = self.site.wait_document(identifier)
        assert document["status"] == "FAILURE", document
        return document["result"]["exc_type"], document["result"]["exc_message"]

    def said(self, pattern: str) -> re.Match[str]:
        """A line of the wide worker."""
        return self.wide.wait_for_line(pattern)

    def gate(self) -> Path:
        """A place whose coming into being lets tasks pass."""
        return self.site.directory / f"gate-{uuid.uuid4().hex[:8]}"

    def traces(self, identifier: str) -> list[tuple[str, int, int]]:
        """Event, number and pid of everything that a task noted."""
        return [(t.event, t.attempt, t.pid) for t in self.site.oracle.traces() if t.id == identifier]


@pytest.fixture(scope="module")
def two(site: Site) -> Iterator[Two]:
    database = site.store.connection_pool.connection_kwargs
    backend = f"redis://{database['host']}:{database['port']}/{database['db']}"
    app.conf.broker_url, app.conf.result_backend = site.vhost, backend
    env = {"ROWS_BROKER": site.vhost, "ROWS_BACKEND": backend}
    wide = site.another(
        "-c", "3", "-n", "wide@%h", "--prefetch-multiplier", "2", "-Q", "video,image,shared",
        "-I", "tests.integration.worker.rows_included", app=MODULE, env={**env, "ROWS_SEND_AT_IMPORT": "1"},
    )  # fmt: skip
    narrow = site.another(
        "-c", "1", "-n", "narrow@%d.%h", "--prefetch-multiplier", "1", "-Q", "lowpri,shared,ranked",
        "--", "task.ignore_result=true", app=MODULE, level=None, env=env,
    )  # fmt: skip
    with wide, narrow:
        wide.wait_for_line(READY)
        site.rabbitmq.wait_queue("lowpri", site.vhost, consumers=1)
        site.rabbitmq.wait_queue("ranked", site.vhost, consumers=1)
        yield Two(site, wide, narrow)
    app.close()


# -- children and rings ------------------------------------------------------------------------------------


@pytest.mark.row("PL1", "CL1", "CL5", "PL3", "PL23")
def test_so_many_children_fed_through_rings_alone(two: Two) -> None:
    gate = two.gate()
    sent = [two.send("rows.compress", str(gate)) for _ in range(3)]
    two.site.oracle.wait_ids("start", sent)
    gate.touch()
    seen = [two.value(identifier) for identifier in sent]
    assert len({each["pid"] for each in seen}) == 3, "all three ran at the same time"
    assert {child.pid for child in two.wide.children("ForkPoolWorker")} == {each["pid"] for each in seen}
    assert {each["hostname"] for each in seen} == {f"wide@{HOST}"}
    assert all(each["maps"] for each in seen), "its ring is memory of its own"
    assert [each["connections"] for each in seen] == [0, 0, 0], "what came and went used no connection of a child's"
    assert len({each["random"] for each in seen}) == 3, "each draws numbers of its own"


@pytest.mark.row("PL4", "P10")
def test_nothing_waits_behind_a_busy_child_while_another_is_free(two: Two) -> None:
    gate = two.gate()
    long = [two.send("rows.compress", str(gate)) for _ in range(2)]
    two.site.oracle.wait_ids("start", long)
    busy = {trace.pid for trace in two.site.oracle.traces("start") if trace.id in long}
    pids = {two.value(two.send("rows.resize"))["pid"] for _ in range(30)}
    assert len(pids) == 1 and not pids & busy
    assert all(two.site.document(identifier) is None for identifier in long)
    gate.touch()
    for identifier in long:
        two.value(identifier)


@pytest.mark.row("PL19")
def test_children_take_no_notice_of_the_group_s_signals_and_pass_that_on_to_nobody(two: Two) -> None:
    gate = two.gate()
    identifier = two.send("rows.signalled", str(gate))
    wait_until("it runs", lambda: "signalled" in two.site.oracle.ids("start"), 60)
    pid = next(trace.pid for trace in two.site.oracle.traces("start") if trace.id == "signalled")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(pid, number)
    gate.touch()
    ignored = int(two.value(identifier), 16)
    assert psutil.pid_exists(pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        assert not ignored & 1 << number - 1, f"a program started by a task ignores {number.name}"


@pytest.mark.row("PL23")
def test_children_publish_over_connections_of_their_own(two: Two) -> None:
    assert two.site.rabbitmq.wait_queue("at import", two.site.vhost, ready=1), (
        "the app had a connection before the fork"
    )
    gate = two.gate()
    sent = [two.send("rows.tell", str(gate)) for _ in range(3)]
    gate.touch()
    for queue in {two.value(identifier) for identifier in sent}:
        facts = two.site.rabbitmq.queue(queue, two.site.vhost)
        assert facts is not None
        # One through the connection that declared the queue, one through the ring; twice where one child ran two.
        wait_until(
            f"both messages in {queue}", lambda queue=queue: _ready(two, queue) % 2 == 0 < _ready(two, queue), 20
        )


def _ready(two: Two, queue: str) -> int:
    facts = two.site.rabbitmq.queue(queue, two.site.vhost)
    return 0 if facts is None else facts.ready


# -- queues ------------------------------------------------------------------------------------------------


@pytest.mark.row("CN17")
def test_two_workers_share_a_queue_and_each_message_goes_to_one(two: Two) -> None:
    gate = two.gate()
    sent = [two.send("rows.where", str(gate), exchange="shared", routing_key="shared") for _ in range(4)]
    two.site.oracle.wait_ids("start", sent)
    gate.touch()
    hosts = [two.value(identifier)["hostname"] for identifier in sent]
    assert sorted(host.split("@")[0] for host in hosts) == ["narrow", "wide", "wide", "wide"]
    two.site.wait_settled("shared")
    assert [two.site.starts(identifier) for identifier in sent] == [1] * 4


@pytest.mark.row("CN18", "RU8", "CL5", "TD24")
def test_each_kind_of_task_has_its_queue_and_its_workers(two: Two) -> None:
    short, _, domain = HOST.partition(".")
    by_name = {name: two.send(name) for name in ("rows.compress", "rows.resize", "rows.tidy_up")}
    by_key = two.send("rows.where", exchange="tasks", routing_key="misc.a.b")
    hosts = {name: two.value(identifier)["hostname"] for name, identifier in by_name.items()}
    narrow = f"narrow@{domain}.{HOST}"
    assert hosts == {"rows.compress": f"wide@{HOST}", "rows.resize": f"wide@{HOST}", "rows.tidy_up": narrow}, short
    assert two.value(by_key)["hostname"] == narrow


@pytest.mark.row("TD24", "RU8")
def test_what_a_task_sends_goes_where_its_own_producer_would_send_it(two: Two) -> None:
    inner = two.value(two.send("rows.sends"))
    assert two.value(inner) == "from a task"
    assert two.value(two.send("rows.tidied", "from outside")) == "from outside"


@pytest.mark.row("AO10", "CN25", "CA13")
def test_higher_priorities_come_first_and_a_retry_keeps_its_own(two: Two) -> None:
    def ranked(task: str, *args: Any, priority: int) -> str:
        return two.send(task, *args, exchange="ranked", routing_key="ranked", priority=priority)

    gate = two.gate()
    first = ranked("rows.where", str(gate), priority=0)
    two.site.wait_started(first)
    later = {priority: ranked("rows.where", priority=priority) for priority in (1, 9, 5)}
    again = ranked("rows.again", priority=7)
    two.site.rabbitmq.wait_queue("ranked", two.site.vhost, ready=4)
    gate.touch()
    assert [two.value(identifier)["priority"] for identifier in later.values()] == [1, 9, 5]
    assert two.value(again) == 7
    order = list(dict.fromkeys(t.id for t in two.site.oracle.traces("start") if t.id in {*later.values(), again}))
    assert order == [later[9], again, later[5], later[1]]


@pytest.mark.row("CL10", "CN2")
def test_the_window_is_so_many_messages_a_child(two: Two) -> None:
    gate = two.gate()
    sent = [two.send("rows.resize", str(gate)) for _ in range(10)]
    two.site.rabbitmq.wait_queue("image", two.site.vhost, ready=4, unacked=6)
    gate.touch()
    for identifier in sent:
        two.value(identifier)


# -- messages ----------------------------------------------------------------------------------------------


@pytest.mark.row("WP5", "RU5", "RU12")
@pytest.mark.parametrize(
    "body",
    [
        [["kept"], {}, {}],
        [[], {"value": "kept"}, {}],
        [["kept"], {}, None],
        {"args": ["kept"], "kwargs": {}, "retries": 3},
    ],
)
def test_a_message_with_no_header_more_than_it_needs(two: Two, body: object) -> None:
    identifier = two.site.send_raw(json.dumps(body).encode(), "video", task="rows.plain")
    assert two.value(identifier) == "kept"


@pytest.mark.row("WP16", "CA22")
def test_a_producer_s_text_stands_for_the_arguments(two: Two) -> None:
    gate = two.gate()
    gate.touch()
    identifier = two.send("rows.compress", str(gate), argsrepr="(<a secret place>,)")
    assert two.value(identifier)["argsrepr"] == "(<a secret place>,)"
    assert str(gate) not in two.wide.output


@pytest.mark.row("TM21", "CF5")
def test_times_without_a_zone_are_in_the_app_s_own(two: Two) -> None:
    eta = (datetime.now(ZoneInfo("Asia/Tokyo")) + timedelta(seconds=1)).replace(tzinfo=None)
    old = {"id": str(uuid.uuid4()), "task": "rows.compress", "args": [], "kwargs": {}, "utc": False}
    for times in ({"eta": eta.isoformat()}, {"expires": (eta - timedelta(hours=1)).isoformat()}):
        identifier = old["id"] = str(uuid.uuid4())
        two.site.channel.basic_publish("", "video", json.dumps({**old, **times}).encode(), _json())
        if "eta" in times:
            two.value(identifier)
            assert datetime.now(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None) >= eta
        else:
            assert two.site.wait_document(identifier)["status"] == "REVOKED"


def _json() -> Any:
    from pika import BasicProperties

    return BasicProperties(content_type="application/json", content_encoding="utf-8")


# -- definitions and settings ------------------------------------------------------------------------------


@pytest.mark.row("CL17", "TD15")
def test_a_module_named_on_the_command_line_is_imported(two: Two) -> None:
    assert two.value(two.send("rows.included")) == "included"


@pytest.mark.row("TD8", "TD12")
def test_the_decorated_body_is_called_and_its_name_is_taken_as_it_is(two: Two) -> None:
    assert two.value(two.send("any name: used verbatim, ümlauts too", "loud")) == "LOUD"


@pytest.mark.row("ST16", "CL22", "CF10")
def test_results_are_kept_unless_a_setting_says_otherwise(two: Two) -> None:
    kept = two.site.send_raw(b'[["kept"], {}, {}]', "video", task="rows.plain")
    ignored = two.site.send_raw(b'[["ignored"], {}, {}]', "lowpri", task="rows.plain")
    assert two.value(kept) == "kept"
    # Its worker runs one after the other: this one comes after it.
    assert two.value(two.to_narrow("rows.plain", "asked for")) == "asked for"
    assert two.site.document(ignored) is None


@pytest.mark.row("ST15")
def test_errors_are_kept_although_results_are_ignored(two: Two) -> None:
    options = {"ignore_result": True}
    failed, succeeded = two.send("rows.errors_kept", True, **options), two.send("rows.errors_kept", False, **options)
    assert two.failure(failed) == ("ValueError", ["kept"])
    two.said(rf"Task rows\.errors_kept\[{succeeded}\] succeeded")
    assert two.site.document(succeeded) is None


# -- handlers ----------------------------------------------------------------------------------------------


@pytest.mark.row("HA1", "HA7")
@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("return", ["before_start", "start", "on_success", "after_return"]),
        ("raise", ["before_start", "start", "on_failure", "after_return"]),
        ("retry", ["before_start", "start", "on_retry", "before_start", "start", "on_success", "after_return"]),
    ],
)
def test_handlers_run_where_the_body_runs_and_change_nothing(two: Two, how: str, wanted: list[str]) -> None:
    identifier = two.to_narrow("rows.told", how)
    if how == "raise":
        assert two.failure(identifier) == ("ValueError", ["boom"])
    else:
        assert two.value(identifier) == "the body's value"
    wait_until("its last handler", lambda: len(two.traces(identifier)) >= len(wanted), 60)
    traces = two.traces(identifier)
    assert [event for event, _, _ in traces] == wanted
    assert len({(thread, pid) for _, thread, pid in traces}) == 1


@pytest.mark.row("HA2")
def test_what_before_start_raises_is_the_task_s_failure(two: Two) -> None:
    identifier = two.send("rows.barred")
    assert two.failure(identifier) == ("ValueError", ["barred"])
    assert two.traces(identifier) == []


# -- ends --------------------------------------------------------------------------------------------------


@pytest.mark.row("LG10")
def test_an_expected_error_is_logged_without_its_traceback(two: Two) -> None:
    expected, unexpected = two.send("rows.expected", "expected"), two.send("rows.expected", "unexpected")
    assert two.failure(expected) == ("KeyError", ["expected"])
    assert two.failure(unexpected) == ("ValueError", ["unexpected"])
    two.said(rf"INFO/ForkPoolWorker-\d\] Task rows\.expected\[{expected}\] raised expected: KeyError\('expected'\)$")
    two.said(rf"ERROR/ForkPoolWorker-\d\] Task rows\.expected\[{unexpected}\] raised unexpected: ValueError")
    wait_until("the traceback", lambda: "\nValueError: unexpected" in two.wide.output, 60)
    assert "\nKeyError: 'expected'" not in two.wide.output


@pytest.mark.row("LG11", "SP6", "SP7", "SP2")
def test_ends_that_are_no_failure_are_logged_and_stored_as_such(two: Two) -> None:
    sent = {how: two.send("rows.ends", how) for how in ("retry", "ignored", "ignored after SUCCESS", "rejected")}
    two.said(rf"INFO/ForkPoolWorker-\d\] Task rows\.ends\[{sent['retry']}\] retry: Retry in 600s: ValueError")
    two.said(rf"INFO/ForkPoolWorker-\d\] Task rows\.ends\[{sent['ignored']}\] ignored$")
    two.said(rf"WARNING/ForkPoolWorker-\d\] Task rows\.ends\[{sent['rejected']}\] reject")
    wait_until("its state", lambda: two.site.document(sent["retry"]) is not None, 60)
    document = two.site.document(sent["retry"])
    assert document is not None
    assert (document["status"], document["result"]["exc_type"]) == ("RETRY", "ValueError")
    two.said(rf"Task rows\.ends\[{sent['ignored after SUCCESS']}\] ignored$")
    assert two.value(sent["ignored after SUCCESS"]) == "by hand"
    assert two.site.document(sent["ignored"]) is None


@pytest.mark.row("EX34")
def test_a_task_without_memory_fails(two: Two) -> None:
    before = {child.pid for child in two.wide.children("ForkPoolWorker")}
    assert two.failure(two.send("rows.ends", "memory"))[0] == "MemoryError"
    assert {child.pid for child in two.wide.children("ForkPoolWorker")} == before


@pytest.mark.row("RT14", "RT15", "RT16")
def test_the_pause_before_another_try_doubles_up_to_a_bound(two: Two) -> None:
    def pause(task: str, retries: int) -> int:
        identifier = two.send(task, retries=retries)
        return int(two.said(rf"Task {re.escape(task)}\[{identifier}\] retry: Retry in (\d+)s")[1])

    assert [pause("rows.factor", retries) for retries in (0, 2)] == [3, 12]
    assert [pause("rows.doubled", retries) for retries in (1, 6)] == [2, 64]
    assert pause("rows.capped", 3) == 600
    assert pause("rows.capped_lower", 3) == 70
    drawn = [pause("rows.jitter", 3) for _ in range(6)]
    assert all(0 <= each <= 100 for each in drawn) and len(set(drawn)) > 1


def test_a_next_attempt_waits_until_its_retry_is_stored(two: Two, redis_server: RedisServer) -> None:
    queue = "seen for the first time"
    redis_server.pause()
    try:
        identifier = two.send("rows.retry_into", queue)
        two.said(rf"Task rows\.retry_into\[{identifier}\] retry: Retry")
        # Whatever was published before this has come to its queue before it: it goes the same way.
        after = f"after {identifier}"
        two.send("rows.publishes", after)
        two.site.rabbitmq.wait_queue(after, two.site.vhost, ready=2)
        facts = two.site.rabbitmq.queue(queue, two.site.vhost)
        assert facts is not None and facts.ready == 0, "it left before its RETRY was stored"
    finally:
        redis_server.resume()
    two.site.rabbitmq.wait_queue(queue, two.site.vhost, ready=1)
    document = two.site.document(identifier)
    assert document is not None and document["status"] == "RETRY"


@pytest.mark.row("PL32")
def test_a_body_that_finds_no_descriptor_waits_and_smaller_ones_pass_it(two: Two) -> None:
    before = resource.prlimit(two.wide.pid, resource.RLIMIT_NOFILE)
    mark = two.wide.mark()
    # Descriptors that are open stay so: the master opens no new one.
    resource.prlimit(two.wide.pid, resource.RLIMIT_NOFILE, (5, before[1]))
    try:
        large = two.send("rows.size", "x" * 300_000)
        two.wide.wait_for_line(r"No memory or descriptor for a body of 3\d{5} bytes", since=mark)
        assert two.value(two.send("rows.size", "small")) == 5
        assert two.site.document(large) is None
    finally:
        resource.prlimit(two.wide.pid, resource.RLIMIT_NOFILE, before)
    assert two.value(large) == 300_000


@pytest.mark.row("CV20", "ST25")
def test_a_task_that_waits_for_another_is_refused_unless_it_insists(two: Two) -> None:
    other = two.send("rows.plain", "the other's")
    assert two.value(other) == "the other's"
    name, (text,) = two.failure(two.send("rows.waits", other, False))
    assert name == "RuntimeError" and "get()" in text
    assert two.value(two.send("rows.waits", other, True)) == "the other's"


@pytest.mark.row("EX32")
def test_a_failure_that_is_kept_keeps_nothing_of_its_frames(two: Two) -> None:
    for _ in range(3):
        two.failure(two.to_narrow("rows.leaky"))
    assert two.value(two.to_narrow("rows.leaked")) == [3, 0]


@pytest.mark.row("EX35")
def test_a_thread_of_a_task_runs_no_task(two: Two) -> None:
    identifier = two.send("rows.threads")
    assert two.value(identifier) == [None, None, identifier]


# -- what they say -----------------------------------------------------------------------------------------


@pytest.mark.row("LG14", "LG12")
def test_lines_of_several_children_stay_whole_and_without_colour(two: Two) -> None:
    gate = two.gate()
    sent = [two.send("rows.chatter", letter, str(gate)) for letter in "abc"]
    gate.touch()
    for identifier in sent:
        two.value(identifier)
    wait_until("all lines", lambda: len(_chatter(two)) == 300, 60)
    assert all(re.fullmatch(r"\[[^\]]+\] <(a{3000}|b{3000}|c{3000})>", line) for line in _chatter(two))
    assert "\x1b" not in two.wide.output


def _chatter(two: Two) -> list[str]:
    return [line for line in two.wide.output.splitlines() if re.search("<aa|<bb|<cc", line)]


@pytest.mark.row("CL6", "CF20")
def test_the_default_level_is_warning(two: Two) -> None:
    identifier = two.to_narrow("rows.ends", "rejected")
    two.narrow.wait_for_line(rf"WARNING/ForkPoolWorker-1\] Task rows\.ends\[{identifier}\] reject")
    assert not re.search(r"INFO/|DEBUG/| received$| succeeded in ", two.narrow.output)
    assert re.search("INFO/", two.wide.output)


@pytest.mark.row("CL24")
@pytest.mark.parametrize("forced", [False, True])
def test_root_unpickles_only_when_it_insists(two: Two, tmp_path: Path, forced: bool) -> None:
    (tmp_path / "tasks.py").write_text("from turbo import Turbo\napp = Turbo('x', accept_content=['json', 'pickle'])\n")
    worker = WorkerProcess(
        "-b", two.site.vhost, "-c", "1", "-l", "info", directory=tmp_path, env={"C_FORCE_ROOT": "1" if forced else ""}
    )
    with worker:
        if os.geteuid() == 0 and not forced:
            worker.wait_for_line("accept pickle.*set C_FORCE_ROOT=1")
            assert worker.wait() == 1
        else:
            worker.wait_for_line(READY)
            worker.terminate()
            assert worker.wait() == 0
