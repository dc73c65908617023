"""Which children leave when the pool shrinks, and which slots come when it grows, over a pool that only remembers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.resizing import Resizing
from turbo.policy.child_lifecycle import ChildState


class Pool:
    """Children by epoch, without processes."""

    def __init__(self) -> None:
        self.children: dict[int, ChildProcess] = {}
        self.retired: list[int] = []

    def spawn(self, index: int) -> ChildProcess:
        epoch = len(self.children) + 1
        child = self.children[epoch] = ChildProcess(index, epoch, None, 0.0, nobody)  # type: ignore[arg-type]
        return child

    def retire(self, child: ChildProcess) -> None:
        child.state = ChildState.RETIRING
        self.retired.append(child.index)

    def bury(self, index: int) -> None:
        self.children = {epoch: child for epoch, child in self.children.items() if child.index != index}


def _make(count: int) -> tuple[Resizing, Pool]:
    pool: Any = Pool()
    resizing = Resizing(pool, PoolSize(count))
    for index in resizing.size.slots:
        pool.spawn(index).state = ChildState.SERVING
    return resizing, pool


def _busy(pool: Pool, *indexes: int) -> None:
    for child in pool.children.values():
        if child.index in indexes:
            child.assigned[1] = None  # type: ignore[assignment]


@pytest.mark.row("RC24")
def test_idle_children_leave_before_busy_ones() -> None:
    resizing, pool = _make(5)
    _busy(pool, 2, 5)
    resizing.shrink(2)
    assert (pool.retired, resizing.size.slots) == ([4, 3], [1, 2, 5])
    resizing.shrink(2)
    assert (pool.retired[2:], resizing.size.slots) == ([1, 5], [2])


def test_a_slot_without_a_child_goes_first_and_one_that_starts_before_a_busy_one() -> None:
    resizing, pool = _make(4)
    _busy(pool, 4)
    pool.bury(2)
    pool.children[3].state = ChildState.STARTING
    resizing.shrink(1)
    assert (pool.retired, resizing.size.slots) == ([], [1, 3, 4])
    resizing.shrink(2)
    assert (pool.retired, resizing.size.slots) == ([1, 3], [4])


def test_a_child_and_its_replacement_leave_together() -> None:
    resizing, pool = _make(2)
    pool.spawn(2)
    resizing.shrink(1)
    assert (pool.retired, resizing.size.slots) == ([2, 2], [1])


@pytest.mark.row("PL20")
def test_shrinking_by_idle_children_alone_spares_busy_ones() -> None:
    resizing, pool = _make(4)
    _busy(pool, 1, 4)
    pool.children[3].parked[7] = None  # type: ignore[assignment]
    assert resizing.shrink_idle(3) == 1
    assert (pool.retired, resizing.size.slots) == ([2], [1, 3, 4])


def test_a_new_child_never_gets_the_index_of_one_that_still_runs() -> None:
    resizing, pool = _make(3)
    _busy(pool, 1, 2, 3)
    resizing.shrink(1)
    resizing.grow(1)
    assert resizing.size.slots == [1, 2, 4], "3 still runs its task"
    pool.bury(3)
    resizing.grow(1)
    assert resizing.size.slots == [1, 2, 3, 4]


@given(st.lists(st.one_of(st.integers(1, 4), st.integers(-4, -1)), max_size=20))
def test_the_pool_has_as_many_slots_as_were_asked_for(steps: list[int]) -> None:
    resizing, pool = _make(2)
    wanted = 2
    for step in steps:
        if step > 0:
            resizing.grow(step)
        else:
            resizing.shrink(-step)
        wanted = max(0, wanted + step)
        assert resizing.size.count == wanted
        alive = [child.index for child in pool.children.values() if child.state < ChildState.RETIRING]
        assert sorted(alive) == resizing.size.slots
