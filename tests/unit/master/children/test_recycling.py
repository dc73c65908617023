"""Which children are replaced when, and that every slot is filled again, over a pool that only remembers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.fakes import nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.recycling import Recycling
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState


class Pool:
    """Children as the real pool keeps them, without processes."""

    def __init__(self, count: int) -> None:
        self.children: dict[int, ChildProcess] = {}
        self.spawned: list[int] = []
        self.retired: list[int] = []
        self.can_spawn = True
        self.on_serving: Observers[ChildProcess] = Observers()
        self.on_gone: Observers[ChildProcess] = Observers()
        for index in range(1, count + 1):
            self.add(index).state = ChildState.SERVING

    def add(self, index: int) -> ChildProcess:
        epoch = len(self.spawned) + len(self.children) + 1
        while epoch in self.children:
            epoch += 1
        child = self.children[epoch] = ChildProcess(index, epoch, None, 0.0, nobody)  # type: ignore[arg-type]
        return child

    def spawn(self, index: int) -> ChildProcess | None:
        if not self.can_spawn:
            return None
        self.spawned.append(index)
        return self.add(index)

    def retire(self, child: ChildProcess) -> None:
        child.state = ChildState.RETIRING
        self.retired.append(child.epoch)

    @property
    def serving(self) -> list[ChildProcess]:
        return [child for child in self.children.values() if child.serving]


def _make(count: int, **options: Any) -> tuple[Recycling, Pool]:
    pool = Pool(count)
    settings = {"max_tasks": None, "limit_kib": None, "hard_kib": None, **options}
    return Recycling(pool, Observers(), PoolSize(count), **settings), pool  # type: ignore[arg-type]


def _spend(recycling: Recycling, child: ChildProcess, tasks: int) -> None:
    child.done = tasks
    recycling.child_reported(child, tasks)


def _come_up(recycling: Recycling, child: ChildProcess) -> None:
    child.state = ChildState.SERVING
    recycling.child_serving(child)


@pytest.mark.row("PL12")
def test_a_spent_child_leaves_when_its_replacement_serves() -> None:
    recycling, pool = _make(2, max_tasks=10)
    spent = pool.children[1]
    _spend(recycling, spent, 9)
    assert pool.spawned == []
    _spend(recycling, spent, 10)
    assert pool.spawned == [1]
    assert pool.retired == [], "its replacement is not up yet"
    _come_up(recycling, next(c for c in pool.children.values() if c.state is ChildState.STARTING))
    assert pool.retired == [spent.epoch]


def test_a_quarter_of_the_children_at_a_time() -> None:
    recycling, pool = _make(8, max_tasks=1)
    for child in list(pool.children.values()):
        _spend(recycling, child, 1)
    assert pool.spawned == [1, 2]
    while len(pool.retired) < 8:
        starting = [c for c in pool.children.values() if c.state is ChildState.STARTING]
        assert len(starting) <= 2
        _come_up(recycling, starting[0])
    assert sorted(pool.spawned) == list(range(1, 9))


def test_the_pool_replaces_a_child_that_dies_before_its_replacement_is_requested() -> None:
    recycling, pool = _make(2, max_tasks=1)
    first, second = list(pool.children.values())
    _spend(recycling, first, 1)
    _spend(recycling, second, 1)
    assert (first.replaced, second.replaced, pool.spawned) == (True, True, [1])
    del pool.children[second.epoch]
    second.state = ChildState.GONE
    recycling.child_gone(second)
    assert not second.replaced, "nobody else fills its slot"


def test_a_replacement_that_dies_is_asked_for_again() -> None:
    recycling, pool = _make(1, max_tasks=1)
    spent = pool.children[1]
    _spend(recycling, spent, 1)
    fresh = next(c for c in pool.children.values() if c is not spent)
    del pool.children[fresh.epoch]
    fresh.state = ChildState.GONE
    recycling.child_gone(fresh)
    assert spent.serving and not spent.replaced
    recycling.child_reported(spent, 0)
    assert pool.spawned == [1, 1]


def test_a_slot_for_which_nothing_can_be_spawned_keeps_its_child() -> None:
    recycling, pool = _make(1, max_tasks=1)
    pool.can_spawn = False
    spent = pool.children[1]
    _spend(recycling, spent, 1)
    assert spent.serving and not spent.replaced and pool.retired == []
    pool.can_spawn = True
    recycling.child_reported(spent, 0)
    assert pool.spawned == [1]
