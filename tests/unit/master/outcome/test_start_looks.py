"""When the master looks for starts that no child has signalled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.fakes import Timers, nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.start_looks import StartLooks
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.start_signals import LOUD_NS, QUIET_NS


class Page:
    """Remembers the word."""

    def __init__(self) -> None:
        self.looks: list[bool] = []

    def set_looks(self, on: bool) -> None:
        self.looks.append(on)


class Link:
    """A link with nothing but its page."""

    def __init__(self) -> None:
        self.page = Page()


class World:
    """Two children of a dispatcher whose estimate the test sets."""

    def __init__(self) -> None:
        self.loop = Timers()
        self.estimate_ns = QUIET_NS
        self.on_handed_over: Observers[Any] = Observers()
        self.looks = StartLooks(self.loop, self)  # type: ignore[arg-type]
        self.seen: list[list[int]] = []
        self.looks.on_due.add(lambda children: self.seen.append([child.index for child in children]))
        self.children = [ChildProcess(n, n, Link(), 0.0, nobody) for n in (1, 2)]  # type: ignore[arg-type]
        for child in self.children:
            child.state = ChildState.SERVING
            self.looks.watch(child)

    def hand_over(self, child: ChildProcess) -> Delivery:
        delivery = Delivery(1, "q", len(child.assigned) + 1, b"", b"", b"")
        delivery.move(State.DISPATCHED)
        child.assigned[delivery.tag] = delivery
        self.on_handed_over([child])
        return delivery


@pytest.fixture
def world() -> World:
    return World()


def test_a_child_is_looked_at_after_a_hand_over_until_its_record_has_started(world: World) -> None:
    delivery = world.hand_over(world.children[0])
    world.loop.fire()
    world.loop.fire()
    assert world.seen == [[1], [1]]
    delivery.move(State.STARTED)
    world.loop.fire()
    assert world.seen == [[1], [1], [1]]
    assert not world.loop.timers


def test_children_signal_their_starts_while_tasks_are_long(world: World) -> None:
    world.estimate_ns = LOUD_NS + 1
    world.hand_over(world.children[0])
    assert not world.looks.on
    assert not world.loop.timers
    assert world.children[0].link.page.looks == [False]  # type: ignore[attr-defined]


def test_a_child_that_starts_later_is_told_too(world: World) -> None:
    world.hand_over(world.children[0])
    late = ChildProcess(3, 3, Link(), 0.0, nobody)  # type: ignore[arg-type]
    world.looks.watch(late)
    assert late.link.page.looks == [True]  # type: ignore[attr-defined]


def test_when_starts_become_loud_every_child_that_holds_something_is_looked_at_once_more(world: World) -> None:
    first = world.hand_over(world.children[0])
    first.move(State.STARTED)
    world.loop.fire()
    assert not world.loop.timers
    world.estimate_ns = LOUD_NS + 1
    world.hand_over(world.children[1])
    assert [child.link.page.looks[-1] for child in world.children] == [False, False]  # type: ignore[attr-defined]
    world.loop.fire()
    assert sorted(world.seen[-1]) == [1, 2]


def test_when_starts_become_quiet_every_child_that_holds_something_is_looked_at(world: World) -> None:
    """It may have got its record while starts were loud, and claim it only now."""
    world.estimate_ns = LOUD_NS + 1
    world.hand_over(world.children[0])
    world.estimate_ns = QUIET_NS
    world.hand_over(world.children[1])
    world.loop.fire()
    assert sorted(world.seen[-1]) == [1, 2]


def test_a_hand_over_shortly_before_a_look_is_looked_at_again(world: World) -> None:
    """The child's end of an earlier task may not be visible to the first look."""
    first = world.hand_over(world.children[0])
    first.move(State.STARTED)
    world.hand_over(world.children[0])
    world.loop.fire()
    world.loop.fire()
    assert world.seen == [[1], [1]]
    assert not world.loop.timers


def test_all_children_that_hold_something_can_be_looked_at_again(world: World) -> None:
    world.hand_over(world.children[0]).move(State.STARTED)
    world.loop.fire()
    world.looks.expect_all()
    world.loop.fire()
    assert world.seen == [[1], [1]]


def test_a_child_that_starts_nothing_is_looked_at_ever_more_rarely_until_another_gets_a_record(world: World) -> None:
    world.hand_over(world.children[0])
    for _ in range(10):
        world.loop.fire()
    assert world.loop.delays == [0.004, 0.008, 0.016, 0.032, *[0.064] * 7]
    world.hand_over(world.children[1])
    assert len(world.loop.timers) == 1
    assert world.loop.delays[-1] == 0.004
    world.loop.fire()
    assert world.seen[-1] == [1, 2]


def test_a_dead_child_is_not_looked_at(world: World) -> None:
    world.hand_over(world.children[0])
    world.looks.unwatch(world.children[0])
    world.loop.fire()
    assert world.seen == [[]]
    assert not world.loop.timers
