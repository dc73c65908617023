"""A task in a thread that cannot be killed: it ends, its child takes nothing more, and leaves after the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.fakes import Ring, nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.dead_child import Cause
from turbo.master.children.stuck_threads import StuckThreads
from turbo.master.delivery.ledger import Delivery
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState


class World:
    """One child with two tasks in threads, 7 and 8; stands in for the pool, the outcomes and who settles."""

    def __init__(self) -> None:
        ring: Any = Ring()
        self.child = ChildProcess(3, 1, ring, 0.0, nobody)
        self.child.state = ChildState.SERVING
        self.child.parked = {seq: Delivery(1, "q", seq, b"", b"", b"") for seq in (7, 8)}
        for seq, delivery in self.child.parked.items():
            delivery.seq = seq
        self.on_ended: Observers[ChildProcess, int] = Observers()
        self.acted: list[Any] = []
        #: The task whose end is in the ring.
        self.reported = 0
        fake: Any = self
        self.threads = StuckThreads(fake, fake, fake)

    def look(self, child: ChildProcess) -> None:
        child.parked.pop(self.reported, None)

    def end_tasks(self, _child: ChildProcess, deliveries: list[Delivery], cause: Cause) -> None:
        assert cause.aimed_at in [delivery.seq for delivery in deliveries]
        self.acted.append((*(delivery.seq for delivery in deliveries), cause.reason, cause.detail))

    def spawn(self, index: int) -> None:
        self.acted.append(("spawn", index))

    def retire(self, child: ChildProcess) -> None:
        if child.serving:
            child.move(ChildState.RETIRING)
            self.acted.append("retire")

    def kill(self, child: ChildProcess, reason: str, _detail: object) -> None:
        child.move(ChildState.KILLED)
        self.acted.append(("kill", reason))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.row("PL7")
def test_its_child_is_replaced_at_once_and_leaves_after_the_others(world: World) -> None:
    assert world.threads.kill_running(world.child, 7, "time_limit", 5)
    assert world.acted == [(7, "time_limit", 5), ("spawn", 3), "retire"]
    assert list(world.child.parked) == [8]
    world.child.parked.clear()
    world.on_ended(world.child, 1)
    assert world.acted[3:] == [("kill", "replaced")]


def test_the_last_one_ends_its_child_at_once(world: World) -> None:
    del world.child.parked[8]
    assert world.threads.kill_running(world.child, 7, "terminated", 15)
    assert world.acted == [(7, "terminated", 15), ("spawn", 3), "retire", ("kill", "replaced")]


def test_a_second_one_needs_no_second_replacement(world: World) -> None:
    world.threads.kill_running(world.child, 7, "time_limit", 5)
    world.threads.kill_running(world.child, 8, "time_limit", 5)
    assert world.acted.count(("spawn", 3)) == 1
    assert world.acted[-1] == ("kill", "replaced")


def test_a_task_whose_end_is_reported_has_ended(world: World) -> None:
    world.reported = 7
    assert not world.threads.kill_running(world.child, 7, "time_limit", 5)
    assert world.acted == []
    assert world.child.serving


def test_a_child_whose_threads_have_all_ended_leaves_by_itself(world: World) -> None:
    world.threads.kill_running(world.child, 7, "time_limit", 5)
    world.child.abandoned.clear()
    world.child.parked.clear()
    world.on_ended(world.child, 1)
    assert ("kill", "replaced") not in world.acted


def test_what_ends_with_its_child_is_left_to_that(world: World) -> None:
    world.child.move(ChildState.KILLED)
    assert not world.threads.kill_running(world.child, 7, "time_limit", 5)
    assert list(world.child.parked) == [7, 8]


def test_a_batch_ends_as_a_whole(world: World) -> None:
    batch = list(world.child.parked.values())
    for delivery in batch:
        delivery.together = batch
    assert world.threads.kill_running(world.child, 7, "time_limit", 5)
    assert world.acted[0] == (7, 8, "time_limit", 5)
    assert world.child.parked == {}
