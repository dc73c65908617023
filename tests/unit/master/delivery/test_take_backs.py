"""Which records busy children give back: the dispatcher over links that only remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.master.delivery.test_dispatcher import _child, _claim, _finish, _learn, _make, _submit
from turbo.policy.delivery_lifecycle import State
from turbo.policy.look_ahead import depth

if TYPE_CHECKING:
    from tests.unit.master.fakes import Timers
    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.ledger import Delivery


def test_a_free_child_gets_all_that_waits_behind_a_long_task_in_order() -> None:
    dispatcher, (child,), _ = _make(1)
    _learn(dispatcher, child, 10_000)
    made = _submit(dispatcher, 30)
    dispatcher.pump()
    head = _claim(child)
    child.moved_ns -= 10_000_000
    other = _child(dispatcher, 2)
    dispatcher.balance()
    assert list(child.assigned.values()) == [head]
    assert list(other.assigned.values()) == made[1:], "the oldest first"


def test_a_child_that_becomes_free_unnoticed_gets_what_waits_behind_a_long_task() -> None:
    dispatcher, (child,), loop = _make(1)
    _learn(dispatcher, child, 10_000)
    made = _submit(dispatcher, 30)
    dispatcher.pump()
    head = _claim(child)
    other = _child(dispatcher, 2)
    child.moved_ns -= 10_000_000
    loop.fire()
    assert list(child.assigned.values()) == [head]
    assert list(other.assigned.values()) == made[1:]


def test_without_a_free_child_nothing_is_taken_back_and_nothing_added_behind_a_long_task() -> None:
    dispatcher, (child,), loop = _make(1)
    _learn(dispatcher, child, 10_000)
    made = _submit(dispatcher, 30)
    dispatcher.pump()
    _claim(child)
    child.moved_ns -= 10_000_000
    loop.fire()
    assert list(child.assigned.values()) == made
    (late,) = _submit(dispatcher, 1, 31)
    dispatcher.balance()
    assert late.state is State.READY
    _finish(dispatcher, child, 10_000)
    dispatcher.balance()
    assert late.state is State.DISPATCHED


def test_what_waits_in_a_batch_behind_a_long_task_goes_to_a_free_child() -> None:
    dispatcher, children, loop = _make(3, processors=1)
    _learn(dispatcher, children[0], 20_000)
    made = _submit(dispatcher, 8)
    dispatcher.pump()
    (child,) = [each for each in children if each.assigned]
    _claim(child).move(State.STARTED)
    child.moved_ns -= 10_000_000
    loop.fire()
    assert list(child.assigned.values()) == made[:1]
    assert [each.state for each in made[1:]] == [State.DISPATCHED] * 7


def test_a_batch_whose_child_waits_for_a_processor_stays_there_for_50_milliseconds() -> None:
    dispatcher, children, loop = _make(3, processors=1)
    _learn(dispatcher, children[0], 20_000)
    made = _submit(dispatcher, 8)
    dispatcher.pump()
    (child,) = [each for each in children if each.assigned]
    child.moved_ns -= 20_000_000
    loop.fire()
    assert list(child.assigned.values()) == made
    child.moved_ns -= 40_000_000
    loop.fire()
    assert not child.assigned
    assert [each.state for each in made] == [State.DISPATCHED] * 8


def _behind_a_long_task(newer: int) -> tuple[Dispatcher, ChildProcess, ChildProcess, list[Delivery], Timers]:
    """Two children with short tasks; one has begun a long one, and nothing waits behind the other's task."""
    dispatcher, (stuck, busy), loop = _make(2)
    _learn(dispatcher, stuck, 500_000)
    made = _submit(dispatcher, 2 * depth(500_000))
    dispatcher.pump()
    _claim(stuck)
    behind = list(stuck.assigned.values())[1:]
    assert behind
    _submit(dispatcher, newer, len(made) + 1)
    dispatcher.pump()
    return dispatcher, stuck, busy, behind, loop


def test_what_waits_behind_a_long_task_comes_before_newer_messages() -> None:
    """A full queue must not let it wait for the end of the long task."""
    dispatcher, stuck, busy, behind, loop = _behind_a_long_task(newer=100)
    assert dispatcher.waiting == 100
    stuck.moved_ns -= 5_000_000
    loop.fire()
    while busy.assigned:
        _finish(dispatcher, busy, 500_000)
    dispatcher.balance()
    assert list(busy.assigned.values())[: len(behind)] == behind
    assert len(stuck.assigned) == 1


def _stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass but what a test takes from a child's ``moved_ns``."""
    monkeypatch.setattr("time.monotonic_ns", lambda: 10**12)


@pytest.mark.parametrize("milliseconds", [(6, 8, 7), (60, 80, 70)])
def test_a_free_child_takes_what_waits_behind_the_longest_of_several_long_tasks(
    milliseconds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others keep theirs: their children may be free before another is."""
    _stop_the_clock(monkeypatch)
    dispatcher, children, loop = _make(3)
    _learn(dispatcher, children[0], 10_000_000)
    _submit(dispatcher, 6)
    dispatcher.pump()
    held = [list(child.assigned.values()) for child in children]
    assert [len(each) for each in held] == [2, 2, 2]
    for child, ran in zip(children, milliseconds, strict=True):
        _claim(child)
        child.moved_ns -= ran * 1_000_000
    loop.fire()
    other = _child(dispatcher, 4)
    assert list(other.assigned.values()) == held[1][1:]
    assert [list(child.assigned.values()) for child in children] == [held[0], held[1][:1], held[2]]
    another = _child(dispatcher, 5)
    assert list(another.assigned.values()) == held[2][1:]


def test_what_waits_behind_a_long_task_goes_to_a_busy_child_with_room_later(monkeypatch: pytest.MonkeyPatch) -> None:
    _stop_the_clock(monkeypatch)
    dispatcher, stuck, busy, behind, loop = _behind_a_long_task(newer=0)
    stuck.moved_ns -= 5_000_000
    loop.fire()
    _finish(dispatcher, busy, 500_000)
    dispatcher.balance()
    assert list(stuck.assigned.values())[1:] == behind, "it may not have been scheduled for a moment"
    stuck.moved_ns -= 20_000_000
    _finish(dispatcher, busy, 500_000)
    dispatcher.balance()
    assert len(stuck.assigned) == 1
    assert behind[0] in busy.assigned.values()


def test_a_long_task_with_messages_behind_it_and_no_child_to_take_them_causes_no_looks() -> None:
    dispatcher, stuck, busy, behind, loop = _behind_a_long_task(newer=10)
    stuck.moved_ns -= 50_000_000
    busy.moved_ns -= 50_000_000
    loop.fire(dispatcher._take_backs)
    assert list(stuck.assigned.values())[1:] == behind
    assert all(getattr(timer[0], "__self__", None) is not dispatcher._take_backs for timer in loop.timers)


def test_a_child_that_claims_nothing_is_the_last_choice_for_what_it_gave_back() -> None:
    dispatcher, (child,), loop = _make(1)
    _learn(dispatcher, child, 10_000)
    made = _submit(dispatcher, 2)
    dispatcher.pump()
    child.moved_ns -= 10_000_000
    other = _child(dispatcher, 2)
    loop.fire()
    assert next(iter(other.assigned.values())) is made[0]


def test_a_child_that_had_claimed_nothing_is_given_work_again_after_a_stall() -> None:
    dispatcher, (child,), loop = _make(1)
    _learn(dispatcher, child, 10_000)
    _submit(dispatcher, 10)
    dispatcher.pump()
    child.moved_ns -= 10_000_000
    loop.fire()
    assert child.assigned, "it was free, and is"


def test_the_last_record_held_unstarted_goes_to_a_free_child_at_once() -> None:
    dispatcher, (first, second), _ = _make(2)
    _learn(dispatcher, first, 10_000)
    _submit(dispatcher, 40)
    dispatcher.pump()
    while second.assigned:
        _finish(dispatcher, second, 10_000)
    while len(first.assigned) > 2:
        _finish(dispatcher, first, 10_000)
    running = _claim(first)
    (unstarted,) = (delivery for delivery in first.assigned.values() if delivery is not running)
    dispatcher.balance()
    assert list(first.assigned.values()) == [running]
    assert list(second.assigned.values()) == [unstarted]


def test_a_task_that_runs_for_a_moment_keeps_what_is_behind_it() -> None:
    dispatcher, (child,), loop = _make(1)
    _learn(dispatcher, child, 10_000)
    _submit(dispatcher, 5)
    dispatcher.pump()
    _claim(child)
    child.moved_ns += 10**15  # it reports while the machine is slow
    loop.fire(dispatcher._take_backs)
    assert len(child.assigned) == 5
    checks = [timer for timer in loop.timers if getattr(timer[0], "__self__", None) is dispatcher._take_backs]
    assert len(checks) == 1, "it is looked at again"
