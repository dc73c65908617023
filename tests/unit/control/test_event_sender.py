"""Task events on their way to the broker: batches, their order, and what happens while it is away."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from turbo.amqp.topology import Exchange
from turbo.control.event_sender import EventSender
from turbo.control.options import ControlOptions
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.task_events import TaskEvents
from turbo.protocol.clock import LogicalClock

OPTIONS = ControlOptions(None, frozenset(), "json", Exchange("celeryev", "topic"), "json", "")


class Loop:
    """The one timer, which the test fires."""

    def __init__(self) -> None:
        self.timer: Callable[[], None] | None = None

    def call_later(self, _delay: float, callback: Callable[[], None]) -> Any:
        assert self.timer is None
        self.timer = callback
        return self

    def create_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert name == "mailbox-start"
        with pytest.raises(StopIteration):
            work.send(None)

    def cancel(self) -> None:
        self.timer = None

    def fire(self) -> None:
        callback, self.timer = self.timer, None
        assert callback is not None
        callback()


class Mailbox:
    """Keeps what is sent while the broker is there."""

    def __init__(self) -> None:
        self.can_send = True
        self.sent: list[tuple[str, Any]] = []
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1

    def send(self, exchange: Exchange, key: str, _header: bytes, body: bytes, *, keep: bool) -> bool:
        assert exchange == OPTIONS.event_exchange
        assert keep
        self.sent.append((key, json.loads(body)))
        return True


class Post:
    """A sender and what is around it."""

    def __init__(self, limit: int = 1_000) -> None:
        self.loop, self.mailbox = Loop(), Mailbox()
        self.events = TaskEvents({}, FailureDocuments({}, stores=False), on=True)
        loop: Any = self.loop
        mailbox: Any = self.mailbox
        self.sender = EventSender(
            loop, mailbox, OPTIONS, LogicalClock(), self.events, hostname="one@here", limit=limit
        )  # fmt: skip

    def tell(self, count: int, kind: str = "task-received") -> None:
        for number in range(count):
            self.events.on_event(kind, b'"uuid":"%d","type":"%b"' % (number, kind.encode()))

    @property
    def uuids(self) -> list[str]:
        return [event["uuid"] for key, body in self.mailbox.sent for event in (body if key == "task.multi" else [body])]


@pytest.mark.row("EV12", "EV13")
def test_they_travel_together() -> None:
    post = Post()
    post.tell(3)
    assert not post.mailbox.sent
    post.loop.fire()
    ((key, events),) = post.mailbox.sent
    assert key == "task.multi"
    assert [event["clock"] for event in events] == [1, 2, 3]
    assert events[0].keys() == {"type", "uuid", "hostname", "pid", "clock", "utcoffset"}
    assert post.loop.timer is None


def test_many_are_sent_before_the_timer() -> None:
    post = Post()
    post.tell(600)
    assert [len(body) for _key, body in post.mailbox.sent] == [250, 250]
    post.loop.fire()
    assert post.uuids == [str(number) for number in range(600)]


@pytest.mark.row("EV16")
def test_a_type_of_the_apps_own_keeps_its_place_and_its_routing_key() -> None:
    post = Post()
    post.tell(2)
    post.tell(1, "task-half-done")
    post.tell(2, "task-succeeded")
    post.loop.fire()
    assert [(key, len(body) if key == "task.multi" else 1) for key, body in post.mailbox.sent] == [
        ("task.multi", 2), ("task.half.done", 1), ("task.multi", 2),
    ]  # fmt: skip


def test_a_retry_is_told_at_once() -> None:
    post = Post()
    post.tell(2)
    post.tell(1, "task-retried")
    assert len(post.uuids) == 3


@pytest.mark.row("EV14")
def test_they_wait_for_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    post.mailbox.can_send = False
    post.tell(150)
    post.loop.fire()
    assert not post.mailbox.sent
    assert post.mailbox.starts == 1, "nothing else may need the connection"
    post.mailbox.can_send = True
    post.sender.flush()
    assert post.uuids == [str(number) for number in range(150)]
    assert not caplog.records
    assert not post.sender.dropped


@pytest.mark.row("EV14")
def test_only_so_many_wait_and_each_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    post = Post(limit=300)
    for outage in (1, 2):
        post.mailbox.can_send = False
        post.tell(500)
        post.mailbox.can_send = True
        post.loop.fire()
        assert post.uuids[-300:] == [str(number) for number in range(200, 500)]
        assert post.sender.dropped == 200 * outage
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "Task events are dropped", "Task events are sent again; 200 were dropped",
    ] * 2  # fmt: skip
