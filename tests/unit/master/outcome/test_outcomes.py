"""Outcome records that are well formed and make no sense cost their child alone; started tasks are counted by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import header_of, no_events, stored
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.outcomes import Outcomes, TaskCounts
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header
from turbo.ring import frames
from turbo.ring.layout import RingCorrupt


class Nobody:
    """Takes every call."""

    def __getattr__(self, name: str) -> object:
        return lambda *_args, **_options: None


class Looks(Nobody):
    """Asks for looks when the test does."""

    def __init__(self) -> None:
        self.on_due: Observers[list[ChildProcess]] = Observers()
        self.expected_all = 0

    def expect_all(self) -> None:
        self.expected_all += 1


class Condemned(Nobody):
    """Remembers which children were condemned."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def child_corrupt(self, child: ChildProcess, reason: str) -> None:
        self.reasons.append(reason)


_DONE = frames.pack_done(Verb.ACK, Ending.SUCCESS, 0, 1000, 0, b"")


@pytest.mark.parametrize(
    "records",
    [
        [(frames.STARTED, 1, frames.STARTED_LATE)] * 2,
        [(frames.STARTED, 2, frames.STARTED_LATE)],
        [(frames.DONE, 1, _DONE)] * 2,
        [(frames.DONE, 1, b"")],
        [(99, 1, b"")],
        [(frames.STARTED, 1, b"\xff")],
        [(frames.EVENT, 1, b"{")],
        [(frames.EVENT, 1, b"\0\xff\0\0\0")],
        [(frames.ASKED, 2, b"".join(frames.pack_asked(1, Verb.ACK, b"")))],
    ],
    ids=[
        "started twice",
        "never given",
        "done twice",
        "empty",
        "unknown kind",
        "short",
        "short event",
        "event without its type",
        "store for a task that it has not",
    ],
)
def test_the_child_is_condemned_and_nothing_is_raised(records: list[tuple[int, int, bytes]]) -> None:
    condemned = Condemned()
    settlement: Any = Nobody()
    settlement.events = no_events()
    outcomes = Outcomes(Nobody(), settlement, Nobody(), Nobody(), Looks())  # type: ignore[arg-type]
    child = ChildProcess(1, 1, Nobody(), 0.0, condemned.child_corrupt)  # type: ignore[arg-type]
    child.state = ChildState.SERVING
    delivery = Delivery(1, "q", 1, b"", b"", b"")
    delivery.move(State.DISPATCHED)
    child.assigned[1] = delivery
    outcomes.take(child, records)
    assert len(condemned.reasons) == 1


NAMES = ["t", "proj.tasks.add", "näme", "x" * 255, "x" * 256, "x" * 300, "y" * 512, ""]


def _other(identifier: str, name: str) -> bytes:
    """Headers that do not begin as Celery's: by another content type."""
    headers, _body, properties = build(identifier, name)
    properties.headers, properties.content_type, properties.content_encoding = headers, "text/plain", "utf-8"
    return encode_header(properties, 3)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans())))
def test_each_name_has_its_count(sent: list[tuple[str, bool]]) -> None:
    task_counts = TaskCounts()
    for number, (name, plain) in enumerate(sent):
        task_counts.count((header_of if plain else _other)(f"id-{number}", name))
    assert task_counts.by_name() == dict(Counter(name or "?" for name, _ in sent))


@given(st.lists(st.binary(max_size=120), max_size=20))
def test_nonsense_is_counted_somewhere(headers: list[bytes]) -> None:
    task_counts = TaskCounts()
    for header in headers:
        task_counts.count(header)
        task_counts.count(header)
    assert sum(task_counts.by_name().values()) == 2 * len(headers)


def test_names_are_bounded() -> None:
    task_counts = TaskCounts()
    for number in range(10_050):
        task_counts.count(header_of("i", f"name-{number}"))
    assert len(task_counts.by_name()) == 10_000
    task_counts.count(header_of("i", "name-3"))
    assert task_counts.by_name()["name-3"] == 2


class Link(Nobody):
    """An outcome ring whose records the test gives."""

    def __init__(self, number: int) -> None:
        self.outcome_fd = number
        self.page = Nobody()
        self.records: list[tuple[int, int, bytes]] = []
        #: Stored by the child and not signalled.
        self.quiet: list[tuple[int, int, bytes]] = []
        self.released: list[int] = []
        self.drains = 0
        self.corrupt = False

    def behind(self) -> int:
        return len(self.records) + len(self.quiet)

    def drain(self) -> list[tuple[int, int, bytes]]:
        self.drains += 1
        if self.corrupt:
            raise RingCorrupt("garbage")
        records, self.records = self.records, []
        return records

    def drain_early(self) -> list[tuple[int, int, bytes]]:
        records, self.records, self.quiet = self.records + self.quiet, [], []
        return records

    def release(self, seq: int) -> None:
        self.released.append(seq)


class World:
    """Outcomes over a loop whose clock, readers and timers the test moves; neighbours note their calls."""

    def __init__(self) -> None:
        self.now = 100.0
        #: Of the dispatcher: records held ahead, and a task's run time.
        self.ahead, self.estimate_ns = 100, 20_000
        self.readers: dict[int, tuple[Any, ...]] = {}
        self.timers: list[Any] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.condemned = Condemned()
        neighbour: Any = self
        self.looks: Any = Looks()
        self.events = no_events()
        self.outcomes = Outcomes(neighbour, neighbour, neighbour, neighbour, self.looks)
        self.outcomes.on_ended.add(lambda _child, count: self.calls.append(("ended", (count,))))
        self.outcomes.on_limits.add(lambda _child, *limits: self.calls.append(("limits", limits)))

    # -- the loop ----------------------------------------------------------------------------------------

    def add_reader(self, fd: int, *callback: Any) -> None:
        assert fd not in self.readers
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def time(self) -> float:
        return self.now

    def call_later(self, _delay: float, callback: Any) -> None:
        self.timers.append(callback)

    # -- the neighbours ----------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_options: self.calls.append((name, args))

    def keep_or_void(self, delivery: Delivery) -> bool:
        return delivery.epoch == 1

    # -- the test ----------------------------------------------------------------------------------------

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        return [(name, *args) for name, args in self.calls if name in names]

    def child(self, number: int = 1) -> tuple[ChildProcess, Link]:
        link: Any = Link(number)
        child = ChildProcess(number, number, link, 0.0, self.condemned.child_corrupt)
        child.state = ChildState.SERVING
        loop: Any = self
        self.outcomes.watch(loop, child)
        return child, link

    def give(self, child: ChildProcess, seq: int, epoch: int = 1) -> Delivery:
        delivery = Delivery(epoch, "q", seq, b"", header_of(f"id-{seq}", "t"), b"")
        delivery.move(State.DISPATCHED)
        child.assigned[seq] = delivery
        return delivery

    def run_tasks(self, child: ChildProcess, link: Any, count: int) -> None:
        """Let a child end tasks, of two records each."""
        for _ in range(count):
            self.seq = self.__dict__.get("seq", 0) + 1
            self.give(child, self.seq)
            link.records += [(frames.STARTED, self.seq, frames.STARTED_LATE), (frames.DONE, self.seq, _DONE)]

    def signal(self, link: Link) -> None:
        callback, *args = self.readers[link.outcome_fd]
        callback(*args)

    def poll(self) -> None:
        (callback,), self.timers = self.timers, []
        callback()


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("damaged", [False, True])
def test_the_dispatcher_hears_of_several_ends_once(world: World, damaged: bool) -> None:
    child, link = world.child()
    for seq in (1, 2, 3):
        world.give(child, seq)
    starts = [(frames.STARTED, seq, frames.STARTED_LATE) for seq in (1, 2)]
    done = [(frames.DONE, seq, frames.pack_done(Verb.ACK, Ending.SUCCESS, 0, seq * 1000, 0, b"")) for seq in (1, 2)]
    world.outcomes.take(child, [starts[0], done[0], starts[1], done[1], *([(99, 1, b"")] if damaged else [])])

    assert world.named("finished", "ended") == [("finished", child, [1000, 2000], 2), ("ended", 2)]
    assert (link.released, child.done, list(child.assigned)) == ([2], 2, [3])
    assert len(world.condemned.reasons) == damaged


def test_what_a_task_reports_is_carried_out_and_counted(world: World) -> None:
    child, link = world.child()
    delivery = world.give(child, 1)
    world.outcomes.take(
        child, [(frames.STARTED, 1, frames.pack_started(frames.EARLY_ACK | frames.HAS_LIMITS, 5, 6, 7.5))]
    )
    assert (delivery.state, world.outcomes.started) == (State.STARTED, 1)
    assert world.named("ack_early", "limits") == [("ack_early", delivery), ("limits", 1, 5, 6, 7.5)]
    assert world.named("ended") == []
    done = frames.pack_done(Verb.REJECT, Ending.FAILURE, 0, 1000, 0, b"")
    world.outcomes.take(child, [(frames.DONE, 1, done)])
    assert world.named("finish", "finished", "ended") == [
        ("finish", delivery, Verb.REJECT, None), ("finished", child, [1000], 0), ("ended", 1),
    ]  # fmt: skip
    assert world.outcomes.endings[Ending.FAILURE] == 1
    assert sum(world.outcomes.endings.values()) == 1
    assert world.outcomes.task_counts.by_name() == {"t": 1}
    assert (link.released, child.done, child.assigned) == ([1], 1, {})


def test_without_events_the_end_of_a_task_leaves_none_to_send(world: World) -> None:
    child, _ = world.child()
    delivery = world.give(child, 1)
    unknown = frames.pack_done(Verb.ACK, Ending.UNKNOWN_TASK, 0, 1000, 0, b"")
    world.outcomes.take(child, [(frames.STARTED, 1, frames.STARTED_LATE), (frames.DONE, 1, unknown)])
    assert delivery.end_events == ()


def test_a_coroutine_makes_room_when_it_starts_and_ends_later(world: World) -> None:
    child, link = world.child()
    delivery = world.give(child, 1)
    world.outcomes.take(child, [(frames.ADMITTED, 1, frames.STARTED_LATE)])
    assert (child.assigned, child.parked, link.released) == ({}, {1: delivery}, [1])
    assert world.named("ack_early") == []
    assert [name for name, *_ in world.named("admitted", "ended_beside")] == ["admitted"]
    world.outcomes.take(child, [(frames.DONE, 1, _DONE)])
    assert (child.parked, child.done, link.released) == ({}, 1, [1])
    assert [name for name, *_ in world.named("admitted", "ended_beside")] == ["admitted", "ended_beside"]
    assert world.named("finish") == [("finish", delivery, Verb.ACK, None)]


def test_a_document_is_stored_unless_it_is_for_the_hooks(world: World) -> None:
    child, _ = world.child()
    document = frames.pack_store(stored("id"))
    first, second = world.give(child, 1), world.give(child, 2)
    for seq, flags in ((1, 0), (2, frames.FOR_HOOKS)):
        done = frames.pack_done(Verb.ACK, Ending.SUCCESS, flags, 1000, 0, document)
        world.outcomes.take(child, [(frames.STARTED, seq, frames.STARTED_LATE), (frames.DONE, seq, done)])
    assert world.named("finish") == [("finish", first, Verb.ACK, stored("id"))]
    ((_, *reported, _then),) = world.named("reported")
    assert reported == [second, Verb.ACK, Ending.SUCCESS, document]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_task_that_is_not_due_is_held_unless_its_connection_is_lost(world: World, epoch: int) -> None:
    child, _ = world.child()
    delivery = world.give(child, 1, epoch)
    done = frames.pack_done(Verb.HOLD, Ending.SUCCESS, 0, 1000, 2_500_000_000, b"")
    world.outcomes.take(child, [(frames.DONE, 1, done)])
    if epoch == 1:
        assert world.named("hold", "finish") == [("hold", delivery)]
        assert (delivery.state, delivery.due) == (State.HELD, 2.5)
    else:
        assert world.named("hold", "finish") == []


def test_a_child_is_read_when_it_signals_until_it_is_unwatched(world: World) -> None:
    loop: Any = world
    child, link = world.child()
    world.signal(link)
    assert world.named("balance") == []
    world.run_tasks(child, link, 1)
    world.signal(link)
    assert len(world.named("balance")) == 1
    assert world.outcomes.started == 1
    world.outcomes.unwatch(loop, child)
    assert world.readers == {}
    world.outcomes.unwatch(loop, child)


def test_a_start_without_a_signal_is_handled_at_a_look(world: World) -> None:
    child, link = world.child()
    delivery = world.give(child, 1)
    link.quiet.append((frames.STARTED, 1, frames.STARTED_EARLY))
    world.looks.on_due([child])
    assert world.named("ack_early", "balance") == [("ack_early", delivery), ("balance",)]
    world.looks.on_due([child])
    assert len(world.named("balance")) == 1


def test_a_poll_handles_starts_without_a_signal_and_a_look_leaves_them_to_it(world: World) -> None:
    child, link = polling(world)
    delivery = world.give(child, 7_000)
    link.quiet.append((frames.STARTED, 7_000, frames.STARTED_EARLY))
    world.looks.on_due([child])
    assert world.named("ack_early") == []
    world.poll()
    assert world.named("ack_early") == [("ack_early", delivery)]


def test_a_ring_that_cannot_be_read_costs_its_child(world: World) -> None:
    _child, link = world.child()
    link.corrupt = True
    world.signal(link)
    assert world.condemned.reasons == ["garbage"]
    assert world.named("balance") == []


@pytest.mark.parametrize(("tasks", "seconds", "polled"), [
    (110, 0.051, True), (90, 0.051, False), (110, 0.049, False), (390, 0.19, True), (1000, 0.201, False),
])  # fmt: skip
def test_rings_are_polled_from_four_thousand_records_a_second_on(
    world: World, tasks: int, seconds: float, polled: bool
) -> None:
    """A wake-up for each record costs more then. The rate is measured over at least 50 ms and less than 200 ms."""
    child, link = world.child()
    world.run_tasks(child, link, 1)
    world.signal(link)
    world.now += seconds
    world.run_tasks(child, link, tasks)
    world.signal(link)
    assert (world.readers == {}) is polled
    assert len(world.timers) == polled


@pytest.mark.parametrize(("ahead", "polled"), [(24, False), (25, True)])
def test_rings_are_not_polled_while_children_hold_too_little_to_last_until_the_next_poll(
    world: World, ahead: int, polled: bool
) -> None:
    world.ahead = ahead
    child, link = world.child()
    world.run_tasks(child, link, 1)
    world.signal(link)
    world.now += 0.051
    world.run_tasks(child, link, 300)
    world.signal(link)
    assert (world.readers == {}) is polled


def polling(world: World) -> tuple[ChildProcess, Link]:
    child, link = world.child()
    world.run_tasks(child, link, 1)
    world.signal(link)
    world.now += 0.051
    world.run_tasks(child, link, 300)
    world.signal(link)
    assert world.readers == {}
    return child, link


def test_a_poll_reads_only_rings_with_records(world: World) -> None:
    child, link = polling(world)
    _other, idle = world.child(2)
    assert world.readers == {}, "a new child is polled as well"
    before, balanced = link.drains, len(world.named("balance"))
    world.now += 0.001
    world.poll()
    assert (link.drains, idle.drains) == (before, 0)
    assert len(world.named("balance")) == balanced
    world.run_tasks(child, link, 2)
    world.poll()
    assert (link.drains, idle.drains) == (before + 1, 0)
    assert len(world.named("balance")) == balanced + 1
    assert world.outcomes.started == 303


def test_polling_goes_on_while_there_is_much_and_then_wake_ups_do(world: World) -> None:
    loop: Any = world
    child, link = polling(world)
    for _ in range(5):
        world.now += 0.051
        world.run_tasks(child, link, 300)
        world.poll()
        assert world.readers == {}
    gone, _ = world.child(2)
    world.outcomes.unwatch(loop, gone)
    world.now += 0.051
    world.run_tasks(child, link, 50)
    assert world.looks.expected_all == 0
    world.poll()
    assert list(world.readers) == [1]
    assert world.timers == []
    assert world.looks.expected_all == 1, "looks found nothing while the rings were polled"
    world.run_tasks(child, link, 1)
    world.signal(link)
    assert world.outcomes.started == 301 + 5 * 300 + 51
