"""Remote control and events through a worker's life: under load, among nonsense, beside another, until it has gone."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from tests.harness.monitor import Monitor
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post
from turbo.policy.outage import CALM


@pytest.fixture(scope="module", params=["turbo", "celery"])
def life(
    request: pytest.FixtureRequest, make_post: Callable[[str], Post]
) -> Iterator[tuple[Post, WorkerProcess, Monitor]]:
    """One worker that the tests of this module use in their order, and a monitor that was there before it."""
    post = make_post(request.param)
    with Monitor(post.client) as monitor, post.worker("-c", "2", "-E", "--heartbeat-interval", "1") as worker:
        worker.wait_for_line(READY, 60)
        yield post, worker, monitor


@pytest.mark.row("EV1", "EV11", "EV12", "CL12")
def test_a_worker_says_that_it_is_there_and_lives(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, worker, monitor = life
    online = monitor.wait("worker-online", node=NODE)
    beat = monitor.wait("worker-heartbeat", node=NODE)
    for event in (online, beat):
        assert set(event) >= {
            "freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys", "pid", "clock", "timestamp",
            "utcoffset", "hostname", "type",
        }  # fmt: skip
        assert (event["pid"], event["freq"], event["active"]) == (worker.pid, 1, 0)
        assert len(event["loadavg"]) == 3
    assert beat["clock"] > online["clock"]

    def alive() -> list[str]:
        state = post.client.events.State()
        for event in list(monitor.heard):
            state.event(dict(event))
        return [found.hostname for found in state.alive_workers()]

    # For a monitor, a worker lives for two seconds after its last heartbeat. Each is heard a little later.
    wait_until("a monitor takes it for alive", lambda: alive() == [NODE], 60)


@pytest.mark.row("RC21", "RC22", "RC23")
def test_events_are_asked_for(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, _worker, monitor = life
    assert post.ask("enable_events") == {"ok": "task events already enabled"}  # by -E
    assert post.ask("disable_events") == {"ok": "task events disabled"}
    assert post.ask("disable_events") == {"ok": "task events already disabled"}
    assert post.ask("enable_events") == {"ok": "task events enabled"}
    assert post.ask("heartbeat") is None
    wait_until("the asked-for one is heard", lambda: any(event.get("freq") == 5 for event in monitor.heard), 60)
    assert post.ask("election", id="1", topic="x") is None


@contextlib.contextmanager
def load(post: Post) -> Iterator[None]:
    """Keep tasks waiting in the queue: a sender that is faster than the tasks, until the block ends."""
    enough = threading.Event()
    sent = threading.Semaphore(0)

    def send() -> None:
        signature = post.client.signature("controlled.brief")
        with post.client.connection_for_write() as connection, post.client.amqp.Producer(connection) as producer:
            while not enough.is_set():
                # A window: what waits is enough for seconds, and is over soon after the block.
                if post.left() < 2_000:
                    for _ in range(500):
                        signature.apply_async(producer=producer)
                sent.release()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert sent.acquire(timeout=60)
        yield
    finally:
        enough.set()
        sender.join(60)


def _has_run(post: Post) -> int:
    count: int = post.ask("stats")["total"].get("controlled.brief", 0)
    return count


@pytest.mark.row("RC1")
def test_a_worker_at_full_load_answers(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, _worker, _monitor = life
    with load(post):
        for _ in range(10):
            before = _has_run(post)
            assert post.ask("ping") == {"ok": "pong"}
            assert len(post.ask("active")) <= 2
            wait_until("the load goes on", lambda before=before: _has_run(post) > before, 60)
    wait_until("all has run", lambda: post.left() == 0, 120)


_NONSENSE: list[tuple[bytes, dict[str, Any]]] = [
    (b"", {}),
    (b"not json", {}),
    (b"[1, 2]", {}),
    (b"null", {}),
    (b'"ping"', {}),
    (b"{}", {}),
    (b'{"method": 7}', {}),
    (b'{"method": ""}', {}),
    (json.dumps({"method": "x" * 300}).encode(), {}),
    (json.dumps({"method": "ping", "arguments": [1]}).encode(), {}),
    (json.dumps({"method": "ping", "arguments": {"self": 1}}).encode(), {}),
    (json.dumps({"method": "ping", "destination": 5}).encode(), {}),
    (json.dumps({"method": "ping", "destination": [5]}).encode(), {}),
    (json.dumps({"method": "ping", "pattern": "(", "matcher": "pcre"}).encode(), {}),
    (json.dumps({"method": "ping", "pattern": "*", "matcher": "nosuch"}).encode(), {}),
    (json.dumps({"method": "ping", "reply_to": 1}).encode(), {}),
    (json.dumps({"method": "ping", "reply_to": {}}).encode(), {}),
    (json.dumps({"method": "ping", "reply_to": {"exchange": "x" * 300}}).encode(), {}),
    # exchanges that may not be declared: the broker closes the channel
    (json.dumps({"method": "ping", "reply_to": {"exchange": "amq.nosuch", "routing_key": "k"}}).encode(), {}),
    (json.dumps({"method": "ping", "reply_to": {"exchange": "celery.pidbox", "routing_key": "k"}}).encode(), {}),
    (json.dumps({"method": "ping", "ticket": ["t"]}).encode(), {}),
    (json.dumps({"method": "revoke", "arguments": {"task_id": [{}]}}).encode(), {}),
    (json.dumps({"method": "revoke", "arguments": {"task_id": 3}}).encode(), {}),
    (json.dumps({"method": "hello", "arguments": {"from_node": "x", "revoked": 3}}).encode(), {}),
    (json.dumps({"method": "query_task", "arguments": {"ids": [["x"]]}}).encode(), {}),
    (b"[" * 100_000, {}),
    (b'{"method": "ping"}', {"content_type": "application/x-python-serialize"}),
    (b'{"method": "ping"}', {"content_type": "application/x-nosuch", "content_encoding": "nosuch"}),
    (b'{"method": "ping"}', {"headers": {"clock": "late"}}),
    (b'{"method": "ping"}', {"headers": {"clock": 2**63 - 1}}),
    (b'{"method": "ping"}', {"headers": {"clock": -1, "expires": "never"}}),
    (b'{"method": "ping"}', {"headers": {"compression": "application/x-gzip"}}),
    (b'{"method": "\x1b[2Jevil\\n\\u0000"}', {}),
]


@pytest.mark.row("RC1", "RC29")
def test_nonsense_is_logged_shortly_and_dropped(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, worker, _monitor = life
    before = worker.mark()
    with pika.BlockingConnection(pika.URLParameters(post.vhost)) as connection:
        channel = connection.channel()
        for body, properties in _NONSENSE:
            given = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
            channel.basic_publish("celery.pidbox", "", body, pika.BasicProperties(**given))
    # the channel for answers may have to come back first
    wait_until("it answers", lambda: bool(post.client.control.ping(timeout=1, destination=[NODE])), 60)
    lines = worker.output.splitlines()[before:]
    complaints = [line for line in lines if "remote control" in line or "pidbox" in line]
    assert len(complaints) >= 15
    assert max(map(len, lines)) < 1000
    assert "\x1b" not in "".join(lines)
    assert post.ask("clock")["clock"] < 2**62


@pytest.mark.row("RC1", "TM12", "CF28")
def test_two_workers_are_told_apart(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, _worker, monitor = life
    bound = {"CELERY_WORKER_REVOKES_MAX": "2"}
    with post.worker("-c", "1", "--without-gossip", "--without-mingle", name="two@here", env=bound) as other:
        other.wait_for_line(READY, 60)
        post.ask("revoke", "two@here", task_id=["a", "b", "c"])
        assert len(post.ask("revoked", "two@here")["two@here"]) == 2
        both = {NODE: {"ok": "pong"}, "two@here": {"ok": "pong"}}
        assert post.ask("ping", NODE, "two@here") == both
        replies = post.client.control.broadcast("ping", reply=True, timeout=20, limit=2)
        assert {node for reply in replies for node in reply} == set(both)
        replies = post.client.control.broadcast("ping", reply=True, timeout=20, limit=1, pattern="t*", matcher="glob")
        assert [list(reply) for reply in replies] == [["two@here"]]
        monitor.wait("worker-online", node="two@here")
        post.client.control.shutdown(destination=["two@here"])
        assert other.wait(60) == 0
    monitor.wait("worker-offline", node="two@here")
    assert post.ask("ping") == {"ok": "pong"}


@pytest.mark.row("RC33", "CL18")
def test_a_worker_may_be_left_alone(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, _worker, monitor = life
    with post.worker("-c", "1", "--without-heartbeat", "--", "enable_remote_control=no", name="mute@here") as other:
        other.wait_for_line(READY, 60)
        assert post.rabbitmq.queue("mute@here.celery.pidbox", post.vhost) is None
        assert post.rabbitmq.queue(f"{NODE}.celery.pidbox", post.vhost) is not None
        other.terminate()
        assert other.wait(60) == 0
    monitor.wait("worker-heartbeat", after=len(monitor.heard), node=NODE)
    assert not [event for event in monitor.heard if event["hostname"] == "mute@here"]


#: Makes the broker close the connection for remote control, and no other; how many there were.
_CLOSE_CONTROL = f"""
length([rabbit_networking:close_connection(P, <<"a test">>) || P <- rabbit_networking:connections(),
(catch begin [{{_, C}}] = rabbit_networking:connection_info(P, [client_properties]),
{{_, _, N}} = lists:keyfind(<<"connection_name">>, 1, C), N end) =:= <<"{NODE} control">>])
""".replace("\n", " ")


@pytest.mark.row("RC1", "EV11")
def test_a_lost_connection_comes_back(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, worker, monitor = life
    # The nonsense before has cost channels. A loss so soon after that belongs to the same outage, and has no line.
    time.sleep(CALM + 1)
    post.ask("revoke", task_id="before-the-loss")
    before = worker.mark()
    assert post.rabbitmq.evaluate(_CLOSE_CONTROL) == "1"
    worker.wait_for_line("Connection to broker lost.*remote control", 60, since=before)
    worker.wait_for_line("established again", 60, since=before)
    wait_until("it answers again", lambda: bool(post.client.control.ping(timeout=1, destination=[NODE])), 60)
    assert "before-the-loss" in post.ask("revoked")
    assert monitor.heard


@pytest.mark.row("RC27", "RC1", "EV11")
def test_a_draining_worker_answers_until_it_has_gone(life: tuple[Post, WorkerProcess, Monitor]) -> None:
    post, worker, monitor = life
    fifo = post.fifo()
    running = post.send("wait", str(fifo))
    held = post.send("noop", countdown=3600)
    post.wait_active(running)
    wait_until("one is held", lambda: len(post.ask("scheduled")) == 1, 60)
    before = worker.mark()
    post.client.control.shutdown(destination=[NODE])
    worker.wait_for_line("warm shutdown", 60, since=before)
    worker.wait_for_line("Got shutdown from remote", since=before)
    wait_until("it has given back what it held", lambda: post.ask("scheduled") == [], 60)
    assert post.ask("ping") == {"ok": "pong"}
    assert [row["id"] for row in post.ask("active")] == [running]
    assert post.ask("stats")["pid"] == worker.pid
    fifo.write_text("done")
    assert worker.wait(60) == 0
    assert post.state(running) == "SUCCESS"
    assert monitor.wait("worker-offline", node=NODE)["hostname"] == NODE
    assert post.left() == 1, held
