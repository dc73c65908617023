"""Queues that a running worker consumes from, no longer consumes from, pauses and resumes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp.exceptions import AMQPError

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import vhost_of
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post

pytestmark = pytest.mark.timeout(180)


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
    answer: str = task.get(timeout=30)
    return answer


def _cut(post: Post) -> None:
    """Close every connection, and wait until the client, whose connections were closed too, reaches the worker."""
    post.rabbitmq.close_all_connections(vhost_of(post.vhost))

    def reached() -> bool:
        try:
            return bool(post.client.control.ping(destination=[NODE], timeout=1.0))
        except AMQPError:
            return False

    wait_until("the worker answers", reached, 60)


@pytest.mark.row("RC28", "RC32", "RC9")
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
    assert post.client.AsyncResult(ids[0]).get(timeout=30) == "0"
    assert _queues(post)["other"]["paused"] is True
    assert _run(post) == "ran", "the other queues go on"

    since = worker.mark()
    _cut(post)
    worker.wait_for_line(r"Consuming from celery \(", 60, since=since)
    assert _queues(post)["other"]["paused"] is True
    post.rabbitmq.wait_queue("other", post.vhost, ready=2, unacked=0)

    assert post.ask("resume", queue="other") == {"ok": "queue other is resumed"}
    for number in (1, 2):
        fifos[number].write_text(str(number))
    assert [post.client.AsyncResult(each).get(timeout=30) for each in ids[1:]] == ["1", "2"]
    assert "paused" not in _queues(post)["other"]
    assert "does not consume" in post.ask("pause", queue="nosuch")["error"]
    assert not re.search("Traceback|CRITICAL", worker.output)
