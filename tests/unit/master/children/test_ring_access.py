"""A ring that cannot be believed, or a body that finds no memory: no message is lost, and the others go on."""

from __future__ import annotations

import errno
import logging
from typing import Any

import pytest

from tests.unit.master.fakes import Ring, Timers
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.stalled_children import ignores_stop, stop_sent
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.ring.layout import RingCorrupt


class Faulty(Ring):
    """Fails as the test says, else works."""

    staging: Exception | None = None
    taking: Exception | None = None

    def stage(self, kind: int, parts: Any) -> int:
        if self.staging is not None and len(b"".join(parts)) > 1000:
            raise self.staging
        return super().stage(kind, parts)

    def take_back(self) -> int | None:
        if self.taking is not None:
            raise self.taking
        return super().take_back()


class World:
    """A dispatcher, its children, and what the pool would do about a damaged one."""

    def __init__(self, children: int) -> None:
        self.clock = Timers()
        loop: Any = self.clock
        self.dispatcher = Dispatcher(loop, max_tasks_per_child=None)
        self.condemned: list[ChildProcess] = []
        self.children = [self.add(number) for number in range(1, children + 1)]

    def add(self, index: int) -> ChildProcess:
        ring: Any = Faulty()
        child = ChildProcess(index, index, ring, 0.0, self.replace)
        child.state = ChildState.SERVING
        self.dispatcher.add_child(child)
        return child

    def replace(self, child: ChildProcess, _reason: str) -> None:
        self.condemned.append(child)
        child.move(ChildState.KILLED)
        self.dispatcher.remove_child(child)

    def submit(self, *sizes: int) -> list[Delivery]:
        made = [Delivery(1, "q", tag, b"", b"", b"x" * size) for tag, size in enumerate(sizes, 1)]
        for delivery in made:
            self.dispatcher.submit(delivery)
        self.dispatcher.pump()
        return made


def _held(child: ChildProcess) -> list[int]:
    return [delivery.tag for delivery in child.assigned.values()]


def test_a_damaged_ring_costs_its_child_and_the_message_goes_to_another(caplog: pytest.LogCaptureFixture) -> None:
    world = World(2)
    first, second = world.children
    first.link.staging = RingCorrupt("impossible head")  # type: ignore[attr-defined]
    (delivery,) = world.submit(2000)
    assert world.condemned == [first]
    assert (_held(first), _held(second)) == ([], [1])
    assert delivery.state is State.DISPATCHED
    assert second.link.unclaimed, "what was staged must be published although another ring was damaged"  # type: ignore[attr-defined]
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


def test_what_was_staged_before_the_fault_is_published() -> None:
    world = World(2)
    world.children[1].link.staging = RingCorrupt("impossible head")  # type: ignore[attr-defined]
    world.submit(1, 2000)
    assert list(world.children[0].link.unclaimed) == [1]  # type: ignore[attr-defined]
    assert world.dispatcher.waiting == 1


def test_a_message_without_memory_waits_and_small_ones_go_on(caplog: pytest.LogCaptureFixture) -> None:
    world = World(2)
    for child in world.children:
        child.link.staging = OSError(errno.EMFILE, "no descriptor")  # type: ignore[attr-defined]
    large, small = world.submit(2000, 1)
    assert (large.state, small.state) == (State.READY, State.DISPATCHED)
    assert world.dispatcher.waiting == 1
    assert world.condemned == []
    world.clock.fire(world.dispatcher.rings)
    assert large.state is State.READY, "there is still none"
    for child in world.children:
        child.link.staging = None  # type: ignore[attr-defined]
    world.clock.fire(world.dispatcher.rings)
    assert large.state is State.DISPATCHED
    assert sorted(tag for child in world.children for tag in _held(child)) == [1, 2]
    assert sum(record.levelno == logging.CRITICAL for record in caplog.records) == 1, "said once, not at every try"


def test_what_waits_for_memory_is_given_back_with_the_rest() -> None:
    world = World(1)
    world.children[0].link.staging = OSError(errno.ENOMEM, "no memory")  # type: ignore[attr-defined]
    deliveries = world.submit(2000)
    assert world.dispatcher.withdraw() == deliveries
    deliveries[0].move(State.VOID)
    world.clock.fire(world.dispatcher.rings)
    assert world.dispatcher.waiting == 0


@pytest.mark.parametrize("error", [RingCorrupt("a token without a record"), OSError(errno.EBADF, "bad")])
def test_a_child_with_an_unreadable_ring_is_condemned_and_keeps_its_deliveries(error: Exception) -> None:
    world = World(1)
    (delivery,) = world.submit(1)
    child = world.children[0]
    child.link.taking = error  # type: ignore[attr-defined]
    assert world.dispatcher.withdraw() == []
    assert world.condemned == [child]
    assert _held(child) == [delivery.tag], "they are settled when the child is gone"
    assert world.dispatcher.ahead == 0


def test_the_sum_of_what_is_held_ahead_survives_a_ring_that_breaks_while_it_is_emptied() -> None:
    world = World(1)
    child = world.children[0]
    world.dispatcher._depth = 4
    world.submit(1, 1, 1, 1)
    assert world.dispatcher.ahead == 3
    ring: Any = child.link
    good = ring.take_back
    answers = iter([good, good])

    def take_back() -> int | None:
        step = next(answers, None)
        if step is None:
            raise RingCorrupt("a token without a record")
        return step()  # type: ignore[no-any-return]

    ring.take_back = take_back
    assert [delivery.tag for delivery in world.dispatcher.reclaim(child)] == [3, 4]
    assert world.condemned == [child]
    assert world.dispatcher.ahead == 0


def test_a_leaving_child_has_its_time_without_that_in_which_everybody_was_stopped() -> None:
    second = 10**9
    world = World(1)
    child = world.children[0]
    ring: Any = child.link
    ring.page = type("Page", (), {"running_seq": lambda _self: 0})()
    ring.take_back = lambda: 7
    stop_sent(child, 1000 * second)

    def ignores(seconds: float) -> bool:
        return ignores_stop(child, world.dispatcher.rings, int(seconds * second))

    assert not ignores(1000.5)
    assert not ignores(1060.5), "stopped for a minute"
    assert not any(ignores(1060.5 + n / 2) for n in range(1, 4))
    assert ignores(1062.6)


def test_a_leaving_child_with_a_damaged_ring_is_condemned_too() -> None:
    world = World(1)
    child = world.children[0]
    ring: Any = child.link
    ring.page = type("Page", (), {"running_seq": lambda _self: 0})()
    ring.taking = RingCorrupt("a token without a record")
    child.stopping = True
    assert not ignores_stop(child, world.dispatcher.rings, 10**18)
    assert world.condemned == [child]


def test_a_child_set_aside_whose_ring_breaks_does_not_come_back(caplog: pytest.LogCaptureFixture) -> None:
    world = World(1)
    child = world.children[0]
    child.probe = 1
    ring: Any = child.link
    ring.taking = RingCorrupt("a token without a record")
    world.dispatcher._stalled_children._look()
    assert world.condemned == [child]
    assert "claims again" not in caplog.text
    assert world.submit(1)[0].state is State.READY
