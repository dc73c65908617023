"""A queue against a model: order, places after requeues, windows, times; with a clock of the test."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import pika
import pika.frame
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.harness.examples import examples
from turbo.embedded_broker.message import Entry, Message, make_message
from turbo.embedded_broker.queue_options import read_options
from turbo.embedded_broker.queues import Queue


class Clock:
    """Timers that fire when the test says what time it is."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], object], list[bool]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Timer:
        alive = [True]
        heapq.heappush(self._due, (self.now + delay, id(alive), callback, alive))
        return _Timer(alive)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            when, _, callback, alive = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if alive[0]:
                callback()
        self.now = end


class _Timer:
    def __init__(self, alive: list[bool]) -> None:
        self._alive = alive

    def cancel(self) -> None:
        self._alive[0] = False


class Home:
    """The virtual host's part: keeps what leaves."""

    def __init__(self) -> None:
        self.dead: list[tuple[bytes, str]] = []
        self.unused: list[Queue] = []

    def dead_letter(self, queue: Queue, entry: Entry, reason: str) -> None:
        self.dead.append((entry.message.body, reason))

    def queue_unused(self, queue: Queue) -> None:
        self.unused.append(queue)


class Sink:
    """A consumer with a window."""

    def __init__(self, window: int, priority: int = 0) -> None:
        self.priority, self.exclusive, self.window = priority, False, window
        self.got: list[Entry] = []
        self.was_cancelled = False

    def can_take(self) -> bool:
        return len(self.got) < self.window

    def deliver(self, entry: Entry) -> None:
        self.got.append(entry)

    def cancelled(self) -> None:
        self.was_cancelled = True


def _message(body: bytes, **properties: Any) -> Message:
    header = pika.frame.Header(1, len(body), pika.BasicProperties(**properties)).marshal()[7:-1]
    return make_message("", "q", header, body)


def _queue(clock: Clock, home: Home, **arguments: Any) -> Queue:
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return Queue(
        "q", durable=True, auto_delete=False, owner_connection=None, arguments=table,
        options=read_options("q", "/", table), owner=home, timers=clock,
    )  # fmt: skip


class QueueMachine(RuleBasedStateMachine):
    """Pushes, takes, requeues in any order: what is ready is always sorted by priority, then by age."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = _queue(Clock(), Home(), max_priority=2)
        self.ready: list[tuple[int, int]] = []  # (-priority, number)
        self.held: list[tuple[tuple[int, int], Entry]] = []
        self.count = 0

    @rule(priority=st.integers(0, 4))
    def push(self, priority: int) -> None:
        assert self.queue.push(_message(b"%d" % self.count, priority=priority))
        self.ready.append((-min(priority, 2), self.count))
        self.ready.sort()
        self.count += 1

    @rule()
    def take(self) -> None:
        entry = self.queue.pop()
        if not self.ready:
            assert entry is None
            return
        assert entry is not None
        assert entry.message.body == b"%d" % self.ready[0][1]
        self.held.append((self.ready.pop(0), entry))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        back = data.draw(st.lists(st.sampled_from(self.held), unique_by=id, min_size=1))
        self.held = [each for each in self.held if not any(each is other for other in back)]
        self.queue.unacked -= len(back)
        self.queue.requeue([entry for _, entry in back])
        self.ready = sorted(self.ready + [key for key, _ in back])
        assert all(entry.redelivered for _, entry in back)

    @invariant()
    def counts(self) -> None:
        assert (self.queue.ready, self.queue.unacked) == (len(self.ready), len(self.held))


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=examples(40))


def test_windows_round_robin_and_priorities_of_consumers() -> None:
    queue = _queue(Clock(), Home())
    high, first, second = Sink(2, priority=1), Sink(9), Sink(9)
    for sink in (first, high, second):
        queue.add_consumer(sink)
    for number in range(6):
        queue.push(_message(b"%d" % number))
    got = [[entry.message.body for entry in sink.got] for sink in (high, first, second)]
    assert got == [[b"0", b"1"], [b"2", b"4"], [b"3", b"5"]]


def test_only_the_active_consumer_gets_anything() -> None:
    queue = _queue(Clock(), Home(), single_active_consumer=True)
    active, waiting = Sink(1), Sink(9, priority=5)
    queue.add_consumer(active)
    queue.add_consumer(waiting)
    for number in range(3):
        queue.push(_message(b"%d" % number))
    assert (len(active.got), len(waiting.got)) == (1, 0)
    queue.remove_consumer(active)
    assert len(waiting.got) == 2


def test_messages_expire_at_their_time_and_in_place() -> None:
    clock, home = Clock(), Home()
    queue = _queue(clock, home, message_ttl=1000)
    queue.push(_message(b"short", expiration="100"))
    queue.push(_message(b"long"))
    clock.advance(0.05)
    held = queue.pop()
    assert held is not None
    clock.advance(0.5)
    assert home.dead == []  # what is delivered does not expire
    queue.unacked -= 1
    queue.requeue([held])
    assert home.dead == [(b"short", "expired")]  # but what comes back too late does
    clock.advance(0.5)
    assert home.dead[1:] == [(b"long", "expired")]
    assert queue.ready == 0


def test_a_message_without_time_goes_to_a_consumer_that_is_there() -> None:
    home = Home()
    queue = _queue(Clock(), home)
    queue.add_consumer(sink := Sink(1))
    for body in (b"now", b"never"):
        queue.push(_message(body, expiration="0"))
    assert [entry.message.body for entry in sink.got] == [b"now"]
    assert home.dead == [(b"never", "expired")]


def test_lengths() -> None:
    home = Home()
    by_bytes = _queue(Clock(), home, max_length_bytes=5)
    for body in (b"aa", b"bb", b"cc"):
        assert by_bytes.push(_message(body))
    assert home.dead == [(b"aa", "maxlen")]
    refusing = _queue(Clock(), home, max_length=1, overflow="reject-publish-dlx")
    assert refusing.push(_message(b"1"))
    assert not refusing.push(_message(b"2"))
    assert home.dead[1:] == [(b"2", "maxlen")]


def test_a_delivery_limit_of_a_quorum_queue() -> None:
    home = Home()
    queue = _queue(Clock(), home, queue_type="quorum", delivery_limit=1)
    queue.push(_message(b"x"))
    for _ in range(2):
        entry = queue.pop()
        assert entry is not None
        queue.requeue([entry])
    assert home.dead == [(b"x", "delivery_limit")]


def test_an_unused_queue_says_so_and_a_used_one_does_not() -> None:
    clock, home = Clock(), Home()
    queue = _queue(clock, home, expires=100)
    clock.advance(0.09)
    queue.touch()
    clock.advance(0.09)
    queue.add_consumer(sink := Sink(1))
    clock.advance(1)
    assert home.unused == []
    queue.remove_consumer(sink)
    clock.advance(0.11)
    assert home.unused == [queue]


def test_a_deleted_queue_tells_its_consumers_and_takes_nothing_back() -> None:
    queue = _queue(Clock(), Home())
    queue.push(_message(b"x"))
    queue.add_consumer(sink := Sink(1))
    queue.close()
    assert sink.was_cancelled
    queue.requeue(sink.got)
    assert queue.ready == 0


@pytest.mark.parametrize("name", ["x-message-ttl", "x-max-priority"])
def test_a_boolean_is_no_number(name: str) -> None:
    with pytest.raises(Exception, match=name):
        read_options("q", "/", {name: True})


def test_streams_are_refused() -> None:
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        read_options("q", "/", {"x-queue-type": "stream"})
