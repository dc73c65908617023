"""The master's limits over a clock and a timer that the test moves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.master.children import boot, time_limits
from turbo.master.children.boot import Boot
from turbo.master.children.time_limits import HardLimits
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState


class World:
    """A loop with its timers, one child that runs task 7, and who carries limits out."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[SimpleNamespace] = []
        self.stopped = 0
        self.acted: list[tuple[str, float]] = []
        self.running: Any = SimpleNamespace(seq=7, in_body=True, started_ns=self.ns(1000.0))
        page = SimpleNamespace(running=lambda: self.running, add_stopped=self._add_stopped, hello=lambda: 0)
        self.child: Any = SimpleNamespace(
            link=SimpleNamespace(page=page),
            assigned={7: None},
            parked={},
            holding=lambda seq: seq if seq in self.child.assigned else None,
        )
        self.children = {1: self.child}

    @staticmethod
    def ns(seconds: float) -> int:
        return int(seconds * 1e9)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        timer = SimpleNamespace(due=self.now + delay, callback=callback)
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def time(self) -> float:
        return self.now

    def run(self, until: float) -> None:
        """Call timers in time."""
        while self.timers and min(timer.due for timer in self.timers) <= until:
            self.wake()
        self.now = max(self.now, until)

    def wake(self, at: float | None = None) -> None:
        """Call the next timer, now or late."""
        timer = min(self.timers, key=lambda each: each.due)
        self.timers.remove(timer)
        self.now = at or max(self.now, timer.due)
        timer.callback()

    def interrupt(self, _child: object, _seq: int) -> None:
        self.acted.append(("soft", self.now))

    def kill_running(self, *_: object) -> None:
        self.acted.append(("hard", self.now))

    def _add_stopped(self, lost: int) -> None:
        self.stopped += lost


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for module in (time_limits, boot):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic_ns=lambda: int(world.now * 1e9)))
    return world


@pytest.fixture
def limits(world: World) -> HardLimits:
    fake: Any = world
    hooks: Any = SimpleNamespace(soft_limit=lambda _delivery: None)
    return HardLimits(fake, hooks, fake, Observers())


def arm(limits: HardLimits, world: World, soft: float, hard: float) -> None:
    """Task 7 began at 1000 s."""
    limits.arm(world.child, 7, world.ns(1000 + soft) if soft else 0, world.ns(1000 + hard) if hard else 0, float(hard))


@pytest.mark.row("PL6", "PL7")
@pytest.mark.parametrize(("soft", "hard", "acted"), [(0, 5.5, "hard"), (2.5, 0, "soft")])
def test_a_limit_acts_when_it_is_due(limits: HardLimits, world: World, soft: float, hard: float, acted: str) -> None:
    arm(limits, world, soft, hard)
    world.run(1000 + (soft or hard) - 0.01)
    assert not world.acted
    world.run(1000 + (soft or hard))
    assert world.acted == [(acted, pytest.approx(1000 + (soft or hard)))]


def test_a_start_that_a_child_reports_arms_its_limits(world: World) -> None:
    fake: Any = world
    started: Observers[Any, int, int, int, float] = Observers()
    HardLimits(fake, SimpleNamespace(soft_limit=lambda _delivery: None), fake, started)  # type: ignore[arg-type]
    started(world.child, 7, world.ns(1002), world.ns(1004), 4.0)
    world.run(1002.5)
    world.running = None
    world.run(1005)
    assert [(kind, pytest.approx(at)) for kind, at in world.acted] == [("soft", 1002), ("hard", 1004)]


def test_the_soft_limit_of_a_task_beside_others_is_raised_by_its_child(world: World) -> None:
    told: list[object] = []
    fake: Any = world
    hooks: Any = SimpleNamespace(soft_limit=told.append)
    limits = HardLimits(fake, hooks, fake, Observers())
    world.child.parked[7] = "delivery"
    arm(limits, world, 2, 5)
    world.run(1004)
    assert (told, world.acted) == (["delivery"], [])
    world.run(1005)
    assert world.acted == [("hard", pytest.approx(1005))]


@pytest.mark.parametrize(("soft", "hard", "acted"), [(0, 5.5, "hard"), (5.5, 0, "soft"), (0, 2.2, "hard")])
def test_a_stop_moves_the_limit(
    limits: HardLimits, world: World, soft: float, hard: float, acted: str, caplog: pytest.LogCaptureFixture
) -> None:
    arm(limits, world, soft, hard)
    world.run(1002.1)
    with caplog.at_level(logging.WARNING):
        world.wake(at=1062.1)
    assert not world.acted
    assert "did not run for" in caplog.text
    assert world.stopped == pytest.approx(60e9, abs=0.2e9)
    # The whole wait in which the stop fell is given, at most a second more than the stop.
    limit = soft or hard
    world.run(1060 + limit - 0.01)
    assert not world.acted
    world.run(1061 + limit)
    assert [kind for kind, _ in world.acted][:1] == [acted]


def test_a_wake_that_is_somewhat_late_moves_nothing(limits: HardLimits, world: World) -> None:
    arm(limits, world, 0, 1.5)
    world.run(1001.2)
    world.wake(at=1002.4)
    assert world.acted == [("hard", 1002.4)]
    assert world.stopped == 0


def test_limits_act_where_every_timer_is_late(limits: HardLimits, world: World) -> None:
    arm(limits, world, 0, 3.0)
    for _ in range(8):
        if world.timers:
            world.wake(at=world.now + 4)
    assert [kind for kind, _ in world.acted] == ["hard"]


@pytest.mark.parametrize("looked_first", [False, True])
def test_a_start_that_is_heard_of_after_a_stop_counts_from_then(
    limits: HardLimits, world: World, looked_first: bool
) -> None:
    if looked_first:
        limits.arm(world.child, 7, 0, world.ns(1500), 500.0)
        world.wake(at=1060)
        assert world.stopped == pytest.approx(60e9)
    world.now = 1060
    arm(limits, world, 0, 5)
    world.run(1064.9)
    assert not world.acted
    world.run(1065.1)
    assert [kind for kind, _ in world.acted] == ["hard"]


def test_the_timer_rests_once_no_limited_task_runs(limits: HardLimits, world: World) -> None:
    arm(limits, world, 0, 300)
    world.run(1003)
    assert world.timers
    world.child.assigned.clear()
    world.run(1005)
    assert not world.timers


@pytest.mark.parametrize(("running", "acts_at"), [("this", 1065.0), ("another", None), ("none", None)])
def test_a_soft_limit_that_is_heard_of_after_a_stop_counts_from_then(
    limits: HardLimits, world: World, running: str, acts_at: float | None
) -> None:
    world.now = 1060
    if running != "this":
        world.running = None if running == "none" else SimpleNamespace(seq=8, in_body=True, started_ns=0)
    arm(limits, world, 5, 0)
    world.run(1064.9)
    assert not world.acted
    world.run(1065.1)
    assert [(kind, pytest.approx(at)) for kind, at in world.acted] == ([] if acts_at is None else [("soft", acts_at)])


def test_a_soft_signal_is_repeated_while_the_body_runs_and_told_once(world: World) -> None:
    told: list[object] = []
    fake: Any = world
    hooks: Any = SimpleNamespace(soft_limit=told.append)
    arm(HardLimits(fake, hooks, fake, Observers()), world, 2.5, 0)
    world.run(1005.6)
    assert [at for _, at in world.acted] == [pytest.approx(at) for at in (1002.5, 1003.5, 1004.5, 1005.5)]
    assert told == [None]
    world.running.in_body = False
    world.run(1009)
    assert len(world.acted) == 4
    assert not world.timers


def test_a_nearer_limit_moves_the_timer(limits: HardLimits, world: World) -> None:
    arm(limits, world, 0, 300)
    world.child.assigned[8] = None
    limits.arm(world.child, 8, 0, world.ns(1000.5), 0.5)
    assert [timer.due for timer in world.timers] == [pytest.approx(1000.5)]
    limits.arm(world.child, 8, 0, world.ns(1000.7), 0.7)
    assert [timer.due for timer in world.timers] == [pytest.approx(1000.5)]


@pytest.mark.parametrize(("tasks", "ended", "kept"), [
    (2000, 1990, 11), (2000, 1400, 2001), (1023, 1023, 1024), (1024, 1024, 1),
])  # fmt: skip
def test_entries_of_ended_tasks_do_not_accumulate(
    limits: HardLimits, world: World, tasks: int, ended: int, kept: int
) -> None:
    """Below the deadline of one that still runs; it is not worth the search while they are few, or most still run."""
    arm(limits, world, 0, 300)
    for seq in range(100, 100 + tasks):
        world.child.assigned[seq] = None
        limits.arm(world.child, seq, 0, world.ns(1400), 400.0)
    for seq in range(100, 100 + ended):
        del world.child.assigned[seq]
    world.wake()
    assert len(limits._heap) == kept
    assert not world.acted
    world.run(1300)
    assert world.acted == [("hard", pytest.approx(1300))]


@pytest.mark.parametrize(("stop", "killed"), [(0.0, 1010.0), (60.0, 1070.0)])
def test_a_stop_is_no_part_of_a_child_s_time_to_start(world: World, stop: float, killed: float) -> None:
    at: list[float] = []
    starter: Any = SimpleNamespace(kill=lambda *_: at.append(world.now))
    fake: Any = world
    children = Boot(fake, starter, alive_timeout=10.0)
    child: Any = SimpleNamespace(link=world.child.link, state=ChildState.STARTING, spawned_at=1000.0, pid=5, index=1)
    children.watch(child)
    world.run(1001)
    if stop:
        world.wake(at=world.now + stop)
    world.run(killed - 0.1)
    assert not at
    world.run(killed + 0.1)
    assert len(at) == 1
