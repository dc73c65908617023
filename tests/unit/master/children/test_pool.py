"""Killing a child in its task and nowhere else, over a ring that only remembers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.master.fakes import Ring, nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.pool import Pool
from turbo.master.children.pool_size import PoolSize
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State


class Loop:
    def call_later(self, *_: object) -> object:
        return object()

    def time(self) -> float:
        return 0.0


@pytest.fixture
def dispatcher() -> Dispatcher:
    loop: Any = Loop()
    return Dispatcher(loop, max_tasks_per_child=None)


@pytest.fixture
def pool(dispatcher: Dispatcher) -> Pool:
    nothing: Any = None
    loop: Any = Loop()
    return Pool(loop, nothing, nothing, dispatcher, nothing, nothing, PoolSize(1), proc_alive_timeout=1.0)


@pytest.fixture
def child(dispatcher: Dispatcher) -> ChildProcess:
    """Serving, and running the first of what it was given."""
    ring: Any = Ring()
    ring.page = SimpleNamespace(running=lambda: SimpleNamespace(seq=ring.claimed) if ring.claimed else None)
    child = ChildProcess(1, 1, ring, 0.0, nobody)
    child.state = ChildState.SERVING
    dispatcher.add_child(child)
    dispatcher.submit(Delivery(1, "q", 1, b"", b"", b""))
    dispatcher.pump()
    ring.claimed = ring.unclaimed.popleft()
    child.assigned[ring.claimed].move(State.STARTED)
    return child


@pytest.mark.row("PL7")
def test_only_the_task_that_is_meant_costs_its_child_its_life(pool: Pool, child: ChildProcess) -> None:
    assert not pool.kill_running(child, 99, "time_limit", 1)
    assert child.serving
    ring: Any = child.link
    assert pool.kill_running(child, ring.claimed, "time_limit", 1)
    assert child.state is ChildState.KILLED


def test_a_retiring_child_that_still_has_work_gets_STOP_again(pool: Pool, child: ChildProcess) -> None:
    pool.retire(child)
    ring: Any = child.link
    assert len(ring.unclaimed) == 1
    assert not pool.kill_running(child, 99, "time_limit", 1)
    assert len(ring.unclaimed) == 1, "its STOP record is gone and it never leaves"
