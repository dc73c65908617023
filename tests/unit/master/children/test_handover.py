"""Replacing the children of a former spawner: how many at a time, and in whose order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from turbo.master.children.handover import Handover
from turbo.master.children.pool_size import PoolSize
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState


class Pool:
    """Children without processes; the test ends them."""

    def __init__(self) -> None:
        self.children: dict[int, Any] = {}
        self.on_serving: Observers[Any] = Observers()
        self.on_gone: Observers[Any] = Observers()
        self.retired: list[int] = []

    def add(self, epoch: int, index: int) -> Any:
        child = SimpleNamespace(epoch=epoch, index=index, state=ChildState.SERVING, serving=True)
        self.children[epoch] = child
        return child

    def retire(self, child: Any) -> None:
        child.state, child.serving = ChildState.RETIRING, False
        self.retired.append(child.epoch)

    def end(self, epoch: int) -> None:
        self.on_gone(self.children.pop(epoch))

    def serve(self, epoch: int, index: int) -> None:
        self.on_serving(self.add(epoch, index))


class World:
    """A pool of old children (epochs below 100), the timers, and whether the end was reported."""

    def __init__(self, count: int) -> None:
        self.pool = Pool()
        self.timers: list[Any] = []
        self.size = PoolSize(count)
        self.done = 0
        spawners: Any = SimpleNamespace(is_former=lambda epoch: epoch < 100)
        parts: Any = self
        pool: Any = self.pool
        for index in self.size.slots:
            self.pool.add(index, index)
        self.handover = Handover(parts, pool, spawners, self.size)
        self.handover.on_done.add(self._count)

    def _count(self) -> None:
        self.done += 1

    def call_later(self, _delay: float, callback: Any, *args: Any) -> Any:
        timer = SimpleNamespace(run=lambda: callback(*args))
        timer.cancel = lambda: self.timers.remove(timer) if timer in self.timers else None
        self.timers.append(timer)
        return timer

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer.run()


@pytest.mark.row("RC25")
def test_a_quarter_is_replaced_at_a_time() -> None:
    world = World(8)
    pool = world.pool
    world.handover.begin()
    assert pool.retired == [1, 2]
    pool.end(1)
    assert pool.retired == [1, 2], "its slot has no new child yet"
    world.fire()
    assert pool.retired == [1, 2, 3], "the task of 2 takes long, and the others do not wait for it"
    pool.serve(101, 1)
    assert pool.retired == [1, 2, 3, 4]
    assert world.done == 0


def test_the_end_is_reported_once_and_nothing_is_left() -> None:
    world = World(2)
    world.handover.begin()
    for epoch in (1, 2):
        assert world.pool.retired == list(range(1, epoch + 1))
        world.pool.end(epoch)
        world.pool.serve(100 + epoch, epoch)
    assert (world.done, world.handover.active, world.timers) == (1, False, [])
    world.pool.end(101)
    assert world.done == 1
    assert world.pool.retired == [1, 2]


def test_a_pool_without_old_children_is_done_at_once() -> None:
    world = World(0)
    world.handover.begin()
    assert world.done == 1


def test_a_slot_that_has_a_new_child_holds_nobody_up() -> None:
    world = World(4)
    world.pool.add(101, 1)
    world.handover.begin()
    assert world.pool.retired == [1, 2]


def test_a_slot_that_is_gone_is_not_waited_for() -> None:
    world = World(4)
    world.handover.begin()
    world.size.drop(1)
    world.pool.end(1)
    assert world.pool.retired == [1, 2]


def test_an_old_child_that_comes_up_late_is_replaced_too() -> None:
    world = World(1)
    world.handover.begin()
    world.pool.serve(2, 1)
    assert world.pool.retired == [1]
    world.fire()
    assert world.pool.retired == [1, 2]
    world.pool.end(1)
    world.pool.end(2)
    assert world.done == 1
