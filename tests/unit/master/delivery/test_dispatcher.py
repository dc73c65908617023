"""Who gets which message: the dispatcher over links that only remember."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import Timers, header_of, nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.time_limit_changes import TimeLimitChanges
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.look_ahead import depth
from turbo.policy.task_options import TaskOptions
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Sequence


class Link:
    """A task ring without memory: records are staged, committed, claimed from the left, taken back from the right."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.seq = 0
        self.staged: list[int] = []
        self.unclaimed: deque[int] = deque()
        self.records: list[bytes] = []

    def stage(self, kind: int, parts: Sequence[bytes]) -> int | None:
        if len(self.unclaimed) + len(self.staged) >= self.room:
            return None
        self.records.append(b"".join(parts))
        self.seq += 1
        self.staged.append(self.seq)
        return self.seq

    def commit(self) -> None:
        self.unclaimed.extend(self.staged)
        self.staged.clear()

    def take_back(self) -> int | None:
        return self.unclaimed.pop() if self.unclaimed else None

    def release(self, seq: int) -> None:
        assert seq not in self.unclaimed


def _child(dispatcher: Dispatcher, index: int, room: int = 1000) -> ChildProcess:
    child = ChildProcess(index, index, Link(room), 0.0, nobody)  # type: ignore[arg-type]
    child.state = ChildState.SERVING
    dispatcher.add_child(child)
    return child


def _make(children: int, **options: Any) -> tuple[Dispatcher, list[ChildProcess], Timers]:
    loop = Timers()
    concurrency = options.pop("async_concurrency", 1)
    dispatcher = Dispatcher(
        loop,  # type: ignore[arg-type]
        max_tasks_per_child=options.pop("max_tasks", None),
        async_concurrency=concurrency,
        **({"processors": options.pop("processors")} if "processors" in options else {}),
    )
    return dispatcher, [_child(dispatcher, number + 1, **options) for number in range(children)], loop


def _submit(dispatcher: Dispatcher, count: int, first: int = 1) -> list[Delivery]:
    made = [Delivery(1, "q", tag, b"", b"", b"") for tag in range(first, first + count)]
    for delivery in made:
        dispatcher.submit(delivery)
    return made


def _claim(child: ChildProcess) -> Delivery:
    return child.assigned[child.link.unclaimed.popleft()]  # type: ignore[attr-defined]


def _finish(dispatcher: Dispatcher, child: ChildProcess, runtime_ns: int) -> Delivery:
    seq = next(iter(child.assigned))
    if seq in child.link.unclaimed:  # type: ignore[attr-defined]
        child.link.unclaimed.remove(seq)  # type: ignore[attr-defined]
    delivery = child.assigned.pop(seq)
    child.done += 1
    dispatcher.finished(child, (runtime_ns,), int(bool(child.assigned)))
    return delivery


def _learn(dispatcher: Dispatcher, child: ChildProcess, runtime_ns: int) -> None:
    """Let the dispatcher believe that tasks take this long."""
    for _ in range(200):
        _submit(dispatcher, 1, 10_000)
        dispatcher.pump()
        holder = next(c for c in dispatcher.children if c.assigned)
        _finish(dispatcher, holder, runtime_ns)


def test_a_free_child_comes_before_a_second_message_for_a_busy_one() -> None:
    dispatcher, children, _ = _make(3)
    _learn(dispatcher, children[0], 10_000)
    _submit(dispatcher, 3)
    dispatcher.pump()
    assert [len(child.assigned) for child in children] == [1, 1, 1]


@pytest.mark.parametrize(
    ("processors", "runtime_ns", "tasks", "woken"),
    [(2, 20_000, 18, 2), (4, 20_000, 18, 4), (2, 150_000, 4, 2), (2, 250_000, 4, 4)],
    ids=["shorter than a wake-up", "a processor for each child", "a little shorter", "longer"],
)
def test_short_tasks_are_given_out_in_batches_if_children_outnumber_processors(
    processors: int, runtime_ns: int, tasks: int, woken: int
) -> None:
    dispatcher, children, _ = _make(4, processors=processors)
    _learn(dispatcher, children[0], runtime_ns)
    _submit(dispatcher, tasks)
    dispatcher.pump()
    assert dispatcher.waiting == 0
    assert sum(bool(child.assigned) for child in children) == woken


def test_every_processor_has_a_child_before_one_gets_a_batch() -> None:
    dispatcher, children, _ = _make(4, processors=2)
    _learn(dispatcher, children[0], 20_000)
    _submit(dispatcher, 2)
    dispatcher.pump()
    assert sorted(len(child.assigned) for child in children) == [0, 0, 1, 1]


def test_a_batch_does_not_grow_behind_a_task_that_turns_out_long() -> None:
    """One child in a long task, and so many free ones that no processor lacks work."""
    dispatcher, children, _ = _make(4, processors=1)
    _learn(dispatcher, children[0], 20_000)
    (long,) = _submit(dispatcher, 1)
    dispatcher.pump()
    (child,) = [each for each in children if each.assigned]
    _claim(child)
    (soon,) = _submit(dispatcher, 1, 2)
    child.moved_ns += 10**15  # it was handed over just now, however slow the machine is
    dispatcher.pump()
    assert list(child.assigned.values()) == [long, soon]
    child.moved_ns -= 10**15 + 10_000_000
    (late,) = _submit(dispatcher, 1, 3)
    dispatcher.pump()
    assert list(child.assigned.values()) == [long, soon]
    assert late.state is State.DISPATCHED


def test_nothing_is_held_ahead_before_run_times_are_known_or_when_they_are_long() -> None:
    dispatcher, children, _ = _make(2)
    _submit(dispatcher, 10)
    dispatcher.pump()
    assert [len(child.assigned) for child in children] == [1, 1]
    assert dispatcher.waiting == 8


def test_short_tasks_are_held_ahead_up_to_two_milliseconds_of_work() -> None:
    dispatcher, children, _ = _make(1)
    _learn(dispatcher, children[0], 100_000)
    _submit(dispatcher, 100)
    dispatcher.pump()
    assert len(children[0].assigned) == depth(100_000) == 21


def test_a_child_that_becomes_free_takes_over_what_another_holds_unstarted() -> None:
    dispatcher, (first, second), _ = _make(2)
    _learn(dispatcher, first, 10_000)
    made = _submit(dispatcher, 40)
    dispatcher.pump()
    while second.assigned:
        _finish(dispatcher, second, 10_000)
    _claim(first)
    held = len(first.assigned)
    assert held > 2
    dispatcher.balance()
    assert second.assigned
    assert len(first.assigned) + len(second.assigned) == held
    assert all(d.state is State.DISPATCHED for d in (*first.assigned.values(), *second.assigned.values()))
    assert all(d in made for d in second.assigned.values())


def test_a_child_with_coroutines_is_chosen_after_those_without_and_takes_turns_with_others() -> None:
    dispatcher, children, _ = _make(3, async_concurrency=10)
    chosen = []
    for tag in range(1, 7):
        (delivery,) = _submit(dispatcher, 1, tag)
        dispatcher.pump()
        child = next(child for child in children if child.assigned)
        _claim(child)
        seq, _ = child.assigned.popitem()
        child.parked[seq] = delivery
        dispatcher.admitted(child)
        chosen.append(child.index)
    assert chosen == [1, 2, 3, 1, 2, 3]


def test_the_child_that_became_free_last_comes_first_and_a_new_one_last() -> None:
    dispatcher, (first, second), _ = _make(2)
    one, two = _submit(dispatcher, 2)
    dispatcher.pump()
    assert (list(first.assigned.values()), list(second.assigned.values())) == ([one], [two])
    for child in (first, second):
        _claim(child)
        _finish(dispatcher, child, 10_000)
    _child(dispatcher, 3)
    (three,) = _submit(dispatcher, 1, 3)
    dispatcher.pump()
    assert list(second.assigned.values()) == [three]


def test_exactly_max_tasks_are_ever_given_to_a_child() -> None:
    dispatcher, (child,), _ = _make(1, max_tasks=250)
    _learn(dispatcher, child, 10_000)
    _submit(dispatcher, 500)
    dispatcher.pump()
    given = child.done
    while child.assigned:
        _finish(dispatcher, child, 10_000)
        given += 1
        dispatcher.balance()
    assert given == 250
    assert dispatcher.waiting == 450


def test_a_full_ring_leaves_the_message_first_in_line() -> None:
    dispatcher, (child,), _ = _make(1, room=3)
    _learn(dispatcher, child, 10_000)
    made = _submit(dispatcher, 5)
    dispatcher.pump()
    assert list(child.assigned.values()) == made[:3]
    _claim(child)
    _finish(dispatcher, child, 10_000)
    dispatcher.balance()
    assert list(child.assigned.values()) == made[1:4]


def test_a_pause_holds_everything_until_its_reason_is_gone() -> None:
    dispatcher, (child,), _ = _make(1)
    dispatcher.pause("results")
    dispatcher.pause("other")
    _submit(dispatcher, 1)
    dispatcher.pump()
    assert not child.assigned
    dispatcher.resume("results")
    assert not child.assigned
    dispatcher.resume("other")
    assert child.assigned


def test_what_was_voided_while_it_waited_is_passed_over() -> None:
    dispatcher, (child,), _ = _make(1)
    first, second = _submit(dispatcher, 2)
    first.move(State.VOID)
    dispatcher.pump()
    assert list(child.assigned.values()) == [second]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("submit claim finish balance stall reclaim leave join".split()), st.integers(0, 9)),
        max_size=80,
    )
)
def test_no_message_is_lost_or_held_twice_whatever_happens(steps: list[tuple[str, int]]) -> None:
    dispatcher, children, loop = _make(3)
    _learn(dispatcher, children[0], 20_000)
    outstanding: set[int] = set()
    tag = 0
    for what, number in steps:
        child = children[number % len(children)]
        if what == "submit":
            outstanding |= {d.tag for d in _submit(dispatcher, number, tag + 1)}
            tag += number
            dispatcher.balance()
        elif what == "claim" and child.link.unclaimed:  # type: ignore[attr-defined]
            head = child.probe or next(iter(child.assigned))
            if head == child.probe:
                child.link.unclaimed.popleft()  # type: ignore[attr-defined]
            elif child.link.unclaimed[0] == head:  # type: ignore[attr-defined]
                _claim(child)
        elif what == "finish" and child.assigned and next(iter(child.assigned)) not in child.link.unclaimed:  # type: ignore[attr-defined]
            outstanding.discard(_finish(dispatcher, child, 20_000).tag)
            dispatcher.balance()
        elif what == "balance":
            dispatcher.balance()
        elif what == "stall":
            child.moved_ns -= 10_000_000
            loop.fire()
        elif what == "reclaim":
            dispatcher.resubmit(dispatcher.reclaim(child))
            dispatcher.take_up(child)
            dispatcher.balance()
        held = [d.tag for c in children for d in c.assigned.values()]
        waiting = [d.tag for d in dispatcher._ready]
        assert sorted(held + waiting) == sorted(outstanding)
        assert dispatcher.ahead == sum(max(0, len(c.assigned) - 1) for c in children)
        if waiting:
            assert all(c.assigned or c.probe for c in children), "a child is free while a message waits"


def test_one_record_in_a_child_that_claims_nothing_goes_to_another() -> None:
    dispatcher, (silent, other), loop = _make(2)
    (first, second) = _submit(dispatcher, 2)
    dispatcher.pump()
    _claim(other)
    loop.fire()
    assert len(silent.assigned) == 1, "a child is given one look's time"
    loop.fire()
    assert not silent.assigned
    assert silent.probe
    _finish(dispatcher, other, 30_000_000)
    dispatcher.balance()
    assert list(other.assigned.values()) == [first]
    assert second.state is not State.READY


def test_a_child_that_claims_its_probe_is_given_work_again() -> None:
    dispatcher, (child,), loop = _make(1)
    _submit(dispatcher, 1)
    dispatcher.pump()
    loop.fire()
    loop.fire()
    assert child.probe
    loop.fire()
    assert child.probe, "it has not claimed it"
    assert not child.assigned
    child.link.unclaimed.clear()  # type: ignore[attr-defined]
    loop.fire()
    assert not child.probe
    assert len(child.assigned) == 1


def test_a_child_that_reports_in_between_keeps_what_it_holds() -> None:
    dispatcher, (child,), loop = _make(1)
    _submit(dispatcher, 1)
    dispatcher.pump()
    for _ in range(5):
        loop.fire()
        child.silent = False
    assert len(child.assigned) == 1


def test_no_look_is_due_while_no_child_holds_anything() -> None:
    dispatcher, (child,), loop = _make(1)
    _submit(dispatcher, 1)
    dispatcher.pump()
    _finish(dispatcher, child, 1000)
    loop.fire()
    assert not loop.timers


def test_a_child_that_comes_up_is_given_what_waits() -> None:
    dispatcher, _, _ = _make(0)
    made = _submit(dispatcher, 2)
    dispatcher.pump()
    assert dispatcher.waiting == 2
    child = _child(dispatcher, 1)
    assert list(child.assigned.values()) == made[:1]


def test_a_child_is_listed_once_however_often_it_is_taken_up() -> None:
    dispatcher, (child,), _ = _make(1)
    dispatcher.take_up(child)
    dispatcher.take_up(child)
    assert list(dispatcher._free) == [child]
    _learn(dispatcher, child, 10_000)
    _submit(dispatcher, 1)
    dispatcher.pump()
    dispatcher.take_up(child)
    dispatcher.take_up(child)
    assert list(dispatcher._partial) == [child]
    dispatcher.remove_child(child)
    dispatcher.remove_child(child)
    assert not dispatcher._free and not dispatcher._partial


def test_a_child_that_is_added_again_keeps_what_it_holds() -> None:
    dispatcher, (child,), _ = _make(1)
    _learn(dispatcher, child, 10_000)
    _submit(dispatcher, 5)
    dispatcher.pump()
    assert dispatcher.ahead == 4
    dispatcher.remove_child(child)
    assert dispatcher.ahead == 0
    dispatcher.add_child(child)
    assert dispatcher.ahead == 4


def test_what_a_child_holds_is_taken_back_from_under_its_STOP_record() -> None:
    dispatcher, (child,), _ = _make(1)
    _learn(dispatcher, child, 10_000)
    made = _submit(dispatcher, 4)
    dispatcher.pump()
    _claim(child)
    child.link.stage(frames.STOP, ())
    child.link.commit()
    child.stopping = True
    assert dispatcher.reclaim(child, 2) == made[2:]
    assert not child.stopping, "it must be told to stop again"
    assert dispatcher.reclaim(child) == made[1:2]
    assert {delivery.state for delivery in made[1:]} == {State.READY}


def test_a_full_ring_of_an_idle_child_is_tried_again() -> None:
    dispatcher, (child,), loop = _make(1, room=0)
    made = _submit(dispatcher, 1)
    dispatcher.pump()
    assert not child.assigned
    loop.fire()
    assert not child.assigned
    child.link.room = 1  # type: ignore[attr-defined]
    loop.fire()
    assert list(child.assigned.values()) == made


@pytest.mark.row("RC20")
def test_a_child_gets_the_limits_that_were_changed_with_the_task() -> None:
    changes = TimeLimitChanges({"slow": TaskOptions("slow"), "quick": TaskOptions("quick")})
    loop: Any = Timers()
    dispatcher = Dispatcher(loop, max_tasks_per_child=None, time_limits=changes)
    child = _child(dispatcher, 1)

    def given(task: str) -> tuple[float | None, float | None] | None:
        dispatcher.submit(Delivery(1, "q", 1, b"", header_of("id", task), b""))
        dispatcher.pump()
        record = child.link.records[-1]  # type: ignore[attr-defined]
        _finish(dispatcher, child, 10_000)
        return frames.unpack_limits(record) if frames.unpack_task(record)[0] & frames.NEW_LIMITS else None

    assert given("slow") is None
    changes.change("slow", 5.0, 2.0)
    assert given("slow") == (5.0, 2.0)
    assert given("quick") is None


@pytest.mark.parametrize("max_tasks", [None, 100])
def test_a_child_with_threads_holds_no_more_than_it_has_threads_for(max_tasks: int | None) -> None:
    loop: Any = Timers()
    dispatcher = Dispatcher(loop, max_tasks_per_child=max_tasks, threads=4)
    child = _child(dispatcher, 1)
    _submit(dispatcher, 9)
    dispatcher.pump()
    assert (len(child.assigned), dispatcher.waiting) == (4, 5)
    for _ in range(4):
        seq = next(iter(child.assigned))
        child.link.unclaimed.remove(seq)  # type: ignore[attr-defined]
        child.parked[seq] = child.assigned.pop(seq)
        dispatcher.admitted(child)
        dispatcher.pump()
    assert (len(child.assigned), len(child.parked), dispatcher.waiting, dispatcher.ahead) == (0, 4, 5, 0)
    del child.parked[1]
    dispatcher.ended_beside(child, 70_000_000)
    dispatcher.pump()
    assert (len(child.assigned), dispatcher.waiting) == (1, 4)
    assert dispatcher.estimate_ns == 70_000_000, "the run time of tasks, not that of starting them"
