"""Queues that a running worker consumes from, no longer consumes from, pauses and resumes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp.exceptions import AMQPError
from kombu import Queue

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import vhost_of
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post

#: As the client needs it, which declares nothing.
KEPT = Queue("kept", no_declare=True)


@pytest.fixture(params=["turbo", "celery"])
def place(request: pytest.FixtureRequest, make_post: Callable[[str], Post]) -> Iterator[tuple[Post, WorkerProcess]]:
    """A worker with one child."""
    post = make_post(request.param)
    with post.worker("-c", "1", "--prefetch-multiplier", "2") as worker:
        worker.wait_for_line(READY, 60)
        yield post, worker


def _queues(post: Post) -> dict[str, Any]:
    return {queue["name"]: queue for queue in post.ask("active_queues")}


def _run(post: Post, **where: Any) -> str:
    fifo = post.fifo()
    task = post.client.send_task("controlled.late", [str(fifo)], **where)
    post.wait_active(task.id)
    fifo.write_text("ran")
    answer: str = task.get(timeout=60)
    return answer


def _wait_settled(post: Post, *queues: str) -> None:
    """Wait until nothing of these queues is unacknowledged.

    A result is stored before its message is acknowledged. If the connection is cut in between, the task runs again,
    reads a FIFO that nobody writes to, and blocks the only child.
    """
    for queue in queues:
        post.rabbitmq.wait_queue(queue, post.vhost, ready=0, unacked=0, timeout=30)


def _cut(post: Post) -> None:
    """Close every connection, and wait until the client, whose connections were closed too, reaches the worker."""
    post.rabbitmq.close_all_connections(vhost_of(post.vhost))

    def reached() -> bool:
        try:
            return bool(post.client.control.ping(destination=[NODE], timeout=1.0))
        except AMQPError:
            return False

    wait_until("the worker answers", reached, 60)


@pytest.mark.row("RC28", "RC32", "RC9", "CN16")
def test_queues_are_added_and_cancelled_and_survive_a_reconnect(place: tuple[Post, WorkerProcess]) -> None:
    post, worker = place
    (said,) = post.celery(("control", "-t", "20", "-d", NODE, "add_consumer", "extra"))
    assert "add consumer extra" in said
    reply = post.ask("add_consumer", queue="topical", exchange="things", exchange_type="topic", routing_key="red.#")
    assert reply == {"ok": "add consumer topical"}
    found = _queues(post)
    assert set(found) == {"celery", "extra", "topical"}
    assert (found["topical"]["exchange"]["name"], found["topical"]["exchange"]["type"]) == ("things", "topic")
    assert (found["extra"]["exchange"]["name"], found["extra"]["routing_key"]) == ("extra", "extra")
    assert _run(post, queue="extra") == "ran"
    assert _run(post, exchange="things", exchange_type="topic", routing_key="red.apple") == "ran"

    _wait_settled(post, "extra", "topical")
    since = worker.mark()
    _cut(post)
    worker.wait_for_line(r"Consuming from celery, extra, topical", 60, since=since)
    assert _run(post, exchange="things", exchange_type="topic", routing_key="red.apple") == "ran"

    assert post.ask("cancel_consumer", queue="topical") == {"ok": "no longer consuming from topical"}
    assert set(_queues(post)) == {"celery", "extra"}
    assert post.ask("cancel_consumer", queue="nosuch") == {"ok": "no longer consuming from nosuch"}
    task = post.client.send_task("controlled.noop", exchange="things", exchange_type="topic", routing_key="red.pear")
    post.rabbitmq.wait_queue("topical", post.vhost, ready=1, unacked=0)
    assert task.id not in {row["id"] for row in post.ask("reserved") + post.ask("active")}
    post.ask("add_consumer", queue="topical")
    post.rabbitmq.wait_queue("topical", post.vhost, ready=0, unacked=0)
    assert not re.search("Traceback|CRITICAL", worker.output)


@pytest.mark.row("RC28", "RC9")
def test_a_paused_queue_keeps_its_messages_and_its_place_in_the_worker(place: tuple[Post, WorkerProcess]) -> None:
    post, worker = place
    post.ask("add_consumer", queue="other")
    fifos = [post.fifo() for _ in range(3)]
    ids = [post.send("late", str(fifo), queue="other") for fifo in fifos]
    post.wait_active(ids[0])
    assert post.ask("pause", queue="other") == {"ok": "queue other is paused"}
    # What runs goes on; what waited here is in its queue again, for any worker.
    post.rabbitmq.wait_queue("other", post.vhost, ready=2, unacked=1)
    assert post.ask("reserved") == []
    fifos[0].write_text("0")
    assert post.client.AsyncResult(ids[0]).get(timeout=60) == "0"
    assert _queues(post)["other"]["paused"] is True
    assert _run(post) == "ran", "the other queues go on"

    _wait_settled(post, "celery")
    post.rabbitmq.wait_queue("other", post.vhost, ready=2, unacked=0)
    since = worker.mark()
    _cut(post)
    worker.wait_for_line(r"Consuming from celery \(", 60, since=since)
    assert _queues(post)["other"]["paused"] is True
    post.rabbitmq.wait_queue("other", post.vhost, ready=2, unacked=0)

    assert post.ask("resume", queue="other") == {"ok": "queue other is resumed"}
    for number in (1, 2):
        fifos[number].write_text(str(number))
    assert [post.client.AsyncResult(each).get(timeout=60) for each in ids[1:]] == ["1", "2"]
    assert "paused" not in _queues(post)["other"]
    assert "does not consume" in post.ask("pause", queue="nosuch")["error"]
    assert not re.search("Traceback|CRITICAL", worker.output)


@pytest.mark.row("RC28", "RC9")
@pytest.mark.parametrize("kind", ["single", "auto_delete"])
def test_a_consumer_that_would_lose_its_place_stays_while_its_queue_is_paused(
    make_post: Callable[[str], Post], kind: str
) -> None:
    """No other worker takes over a queue with a single active consumer, and an auto-delete queue is not deleted."""
    post = make_post("turbo")
    arguments = {"x-single-active-consumer": True} if kind == "single" else {}
    env = {"QUEUE": json.dumps({"name": "kept", "auto_delete": kind == "auto_delete", "queue_arguments": arguments})}
    options = ("-c", "1", "--prefetch-multiplier", "2")
    with post.worker(*options, env=env) as worker:
        worker.wait_for_line(READY, 60)
        ids = [post.send("late", "/dev/null", queue=KEPT)]
        post.wait_state(ids[0], "SUCCESS")
        fifo = post.fifo()
        ids += [post.send("late", str(fifo), queue=KEPT)]
        post.wait_active(ids[1])
        ids += [post.send("late", "/dev/null", queue=KEPT) for _ in range(4)]
        post.rabbitmq.wait_queue("kept", post.vhost, ready=3, unacked=2)
        assert post.ask("pause", queue="kept") == {"ok": "queue kept is paused"}
        fifo.write_text("ran")
        post.wait_state(ids[1], "SUCCESS")
        # The window is all that is held here, and it does not end that of the other queue.
        post.rabbitmq.wait_queue("kept", post.vhost, ready=2, unacked=2)
        wait_until("the worker has them", lambda: [row["id"] for row in post.ask("reserved")] == ids[2:4], 60)
        assert [(queue["name"], queue.get("paused")) for queue in post.ask("active_queues")] == [
            ("celery", None), ("kept", True),
        ]  # fmt: skip
        assert [_run(post) for _ in range(3)] == ["ran"] * 3
        assert post.ask("revoke", task_id=[ids[2]])
        post.wait_state(ids[2], "REVOKED")
        with post.worker(*options, env=env, name="other@here") as other:
            other.wait_for_line(READY, 60)
            if kind == "single":
                post.rabbitmq.wait_queue("kept", post.vhost, ready=1, unacked=2)
                since = worker.mark()
                assert post.ask("resume", queue="kept") == {"ok": "queue kept is resumed"}
                for each in ids[3:]:
                    post.wait_state(each, "SUCCESS")
                for each in ids[3:]:
                    worker.wait_for_line(rf"{each}\] succeeded", since=since)
            else:
                for each in ids[5:]:
                    post.wait_state(each, "SUCCESS")
                other.terminate()
                assert other.wait(30) == 0
                assert post.rabbitmq.queue("kept", post.vhost) is not None
                post.ask("resume", queue="kept")
                for each in ids[3:5]:
                    post.wait_state(each, "SUCCESS")
        assert "paused" not in str(post.ask("active_queues"))
        assert not re.search("Traceback|CRITICAL", worker.output)


@pytest.mark.row("RC28")
def test_what_a_paused_queue_holds_returns_when_it_is_cancelled_or_the_worker_ends(
    make_post: Callable[[str], Post],
) -> None:
    post = make_post("celery")
    env = {"QUEUE": json.dumps({"name": "kept", "queue_arguments": {"x-single-active-consumer": True}})}
    with post.worker("-c", "1", "--prefetch-multiplier", "2", env=env) as worker:
        worker.wait_for_line(READY, 60)
        post.ask("pause", queue="kept")
        ids = [post.send("late", "/dev/null", queue=KEPT) for _ in range(3)]
        post.rabbitmq.wait_queue("kept", post.vhost, ready=1, unacked=2)
        post.ask("cancel_consumer", queue="kept")
        post.rabbitmq.wait_queue("kept", post.vhost, ready=3, unacked=0)
        post.ask("add_consumer", queue="kept")
        for each in ids:
            post.wait_state(each, "SUCCESS")
        post.ask("pause", queue="kept")
        post.send("late", "/dev/null", queue=KEPT)
        post.rabbitmq.wait_queue("kept", post.vhost, ready=0, unacked=1)
        # A lost connection does not end the pause.
        since = worker.mark()
        _cut(post)
        worker.wait_for_line(r"Consuming from celery, kept", 60, since=since)
        post.rabbitmq.wait_queue("kept", post.vhost, ready=0, unacked=1)
        worker.terminate()
        assert worker.wait(60) == 0
        post.rabbitmq.wait_queue("kept", post.vhost, ready=1, unacked=0)
