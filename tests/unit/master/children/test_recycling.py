"""Which children are replaced when, and that every slot is filled again, over a pool that only remembers."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.unit.master.fakes import nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.recycling import Recycling
from turbo.master.delivery.ledger import Delivery
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState


class Pool:
    """Children as the real pool keeps them, without processes."""

    def __init__(self, count: int) -> None:
        self.children: dict[int, ChildProcess] = {}
        self.spawned: list[int] = []
        self.retired: list[int] = []
        self.can_spawn = True
        self.dismissed: list[int] = []
        self.killed: list[tuple[int, int, str]] = []
        self.still_runs = True
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

    def dismiss(self, child: ChildProcess) -> None:
        self.dismissed.append(child.epoch)

    def kill_running(self, child: ChildProcess, seq: int, reason: str, _detail: object) -> bool:
        self.killed.append((child.epoch, seq, reason))
        return self.still_runs

    def kill(self, child: ChildProcess, reason: str, _detail: object) -> None:
        self.killed.append((child.epoch, 0, reason))

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


def _measured(**options: Any) -> tuple[Recycling, Pool, ChildProcess]:
    """One child, which is this process: its memory is above 1 KiB and below 1 TiB."""
    recycling, pool = _make(1, **options)
    child = pool.children[1]
    child.pid = os.getpid()
    child.done = 1
    return recycling, pool, child


def test_a_child_that_uses_more_than_its_memory_is_replaced() -> None:
    recycling, pool, child = _measured(limit_kib=1)
    recycling.sample()
    recycling.sample()
    assert (pool.spawned, recycling.replaced, pool.killed) == ([1], 1, [])
    assert child.peak_rss_kib >= child.rss_kib > 1_000
    assert pool.dismissed == [1, 1]


def test_a_child_within_its_memory_stays() -> None:
    recycling, pool, child = _measured(limit_kib=1 << 30, hard_kib=1 << 30)
    child.peak_rss_kib = 1 << 29
    recycling.sample()
    assert (pool.spawned, pool.killed, recycling.replaced) == ([], [], 0)
    assert child.peak_rss_kib == 1 << 29


@pytest.mark.parametrize("beside", [False, True])
def test_a_child_that_starts_above_its_memory_is_named_once_and_kept(
    beside: bool, caplog: pytest.LogCaptureFixture
) -> None:
    recycling, pool, child = _measured(limit_kib=1)
    child.done = 0
    recycling.sample()
    recycling.sample()
    assert pool.spawned == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    delivery = Delivery(1, "q", 1, b"", b"", b"")
    (child.parked if beside else child.assigned)[7] = delivery
    recycling.sample()
    assert pool.spawned == [1], "it runs a task"


@pytest.mark.parametrize(("runs", "still", "killed", "spawned"), [
    (True, True, [(1, 7, "memory")], []), (True, False, [(1, 7, "memory")], [1]), (False, True, [], [1]),
])  # fmt: skip
def test_the_hard_limit_kills_in_the_task_or_replaces(
    runs: bool, still: bool, killed: list[tuple[int, int, str]], spawned: list[int]
) -> None:
    recycling, pool, child = _measured(hard_kib=1)
    pool.still_runs = still
    delivery = Delivery(1, "q", 1, b"", b"", b"")
    if runs:
        child.assigned[7] = delivery
    recycling.sample()
    assert (pool.killed, pool.spawned) == (killed, spawned)


def test_a_child_without_a_process_is_not_measured() -> None:
    recycling, pool, child = _measured(limit_kib=1)
    for state, pid in ((ChildState.STARTING, 0), (ChildState.KILLED, os.getpid()), (ChildState.GONE, os.getpid())):
        child.state, child.pid = state, pid
        recycling.sample()
    assert pool.dismissed == []
    child.state, child.pid = ChildState.SERVING, 1 << 30
    recycling.sample()
    assert (pool.dismissed, pool.spawned, child.rss_kib) == ([1], [], 0)


def test_a_sample_requests_the_replacement_that_could_not_be_had() -> None:
    recycling, pool, spent = _measured(max_tasks=2)
    pool.can_spawn = False
    _spend(recycling, spent, 1)
    recycling.sample()
    assert not spent.replaced
    _spend(recycling, spent, 2)
    pool.can_spawn = True
    recycling.sample()
    assert (pool.spawned, recycling.replaced) == ([1], 1)


def test_when_a_child_is_gone_the_next_is_replaced() -> None:
    recycling, pool = _make(2, max_tasks=1)
    first, second = list(pool.children.values())
    _spend(recycling, first, 1)
    _spend(recycling, second, 1)
    assert pool.spawned == [1]
    del pool.children[first.epoch]
    first.state = ChildState.GONE
    recycling.child_gone(first)
    assert pool.spawned == [1, 2]
    _come_up(recycling, next(c for c in pool.children.values() if c.state is ChildState.STARTING))
    assert pool.retired == [], "the one that it replaces is gone"


@pytest.mark.parametrize("claimed", [True, False])
def test_the_hard_limit_kills_a_child_whose_tasks_run_at_once(claimed: bool) -> None:
    recycling, pool, child = _measured(hard_kib=1)
    pool.still_runs = False
    child.parked[1] = Delivery(1, "q", 1, b"", b"", b"")
    if claimed:
        child.assigned[2] = Delivery(1, "q", 2, b"", b"", b"")
    recycling.sample()
    assert pool.killed[-1] == (child.epoch, 0, "memory")
    assert pool.spawned == []
