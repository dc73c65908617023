"""What the autoscaler counts as work, and what it does to the pool."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.master.children.test_resizing import Pool
from turbo.master.children.autoscaler import Autoscaler
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.resizing import Resizing
from turbo.policy.autoscaling import Autoscaling
from turbo.policy.child_lifecycle import ChildState


class World:
    """An autoscaled pool, and the number of tasks that wait."""

    def __init__(self, most: int, least: int) -> None:
        self.pool = Pool()
        pool: Any = self.pool
        self.dispatcher: Any = SimpleNamespace(waiting=0)
        self.size = PoolSize(most, least)
        self.resizing = Resizing(pool, self.size)
        for index in self.size.slots:
            self.pool.spawn(index).state = ChildState.SERVING
        self.scaler = Autoscaler(Autoscaling(most, least), self.resizing, pool, self.dispatcher)

    def serve(self) -> None:
        """Let every child that starts serve."""
        for child in self.pool.children.values():
            if child.state is ChildState.STARTING:
                child.state = ChildState.SERVING


@pytest.mark.row("PL20")
def test_work_starts_children_and_idle_ones_leave_after_the_keepalive() -> None:
    world = World(6, 1)
    world.dispatcher.waiting = 4
    world.scaler.scale(0.0)
    world.serve()
    assert world.size.slots == [1, 2, 3, 4]
    world.scaler.scale(1.0)
    assert world.size.count == 4, "the children that were started are for the same tasks"
    world.dispatcher.waiting = 0
    for child in world.pool.children.values():
        if child.index in (2, 3):
            child.assigned[1] = None  # type: ignore[assignment]
    world.scaler.scale(2.0)
    world.scaler.scale(30.0)
    assert world.pool.retired == []
    world.scaler.scale(32.1)
    assert world.pool.retired == [4, 1], "busy ones stay"
    assert world.scaler.info() == {"max": 6, "min": 1, "current": 2, "qty": 2}


@pytest.mark.row("PL20")
def test_coroutines_of_one_child_count_as_one_task() -> None:
    world = World(6, 1)
    world.pool.children[1].parked.update(dict.fromkeys(range(50)))  # type: ignore[arg-type]
    world.scaler.scale(0.0)
    assert world.size.count == 1
    world.dispatcher.waiting = 2
    world.scaler.scale(1.0)
    assert world.size.count == 3


@pytest.mark.row("RC26")
def test_new_limits_hold_at_once() -> None:
    world = World(4, 0)
    assert (world.size.count, world.size.limit) == (0, 4)
    assert world.scaler.update(None, 3) == (4, 3)
    world.serve()
    assert world.size.slots == [1, 2, 3]
    world.pool.children[3].assigned[1] = None  # type: ignore[assignment]
    assert world.scaler.update(1, 0) == (1, 0)
    assert (world.size.slots, world.size.limit) == ([3], 1)
    assert world.pool.retired == [2, 1]
    with pytest.raises(ValueError, match="cannot have"):
        world.scaler.update(2, 3)
    assert world.scaler.update(None, None) == (1, 0)
