"""The life of children without processes; killing a child in its task and nowhere else."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.master.fakes import Ring, nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.pool import Pool
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.spawners import Spawners
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.ring import frames
from turbo.ring.control_page import ChildPage
from turbo.spawner.handle import SpawnerGone
from turbo.spawner.messages import Exited, Report, Spawned, SpawnFailed


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
    spawners = Spawners(loop, nothing)
    return Pool(loop, spawners, nothing, dispatcher, nothing, nothing, PoolSize(1), proc_alive_timeout=1.0)


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


class Spawner:
    """The spawner's socket as the pool sees it: the test gives the reports."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.reports: list[Report] = []
        self.gone = False
        self.full = False
        self.orphan_status: int | None = None

    def fileno(self) -> int:
        return 1_000_000

    def spawn(self, epoch: int, index: int, fds: tuple[int, ...]) -> None:
        if self.full:
            raise BlockingIOError
        if self.gone:
            raise SpawnerGone
        assert len(fds) == 7
        self.asked.append((epoch, index))

    def reap_orphan(self, _pid: int) -> int | None:
        return self.orphan_status

    def receive(self) -> list[Report]:
        reports, self.reports = self.reports, []
        return reports


class World:
    """A pool over real rings, a loop that the test turns, and a spawner without processes."""

    def __init__(self, children: int = 1) -> None:
        self.now = 0.0
        self.readers: dict[int, tuple[Any, ...]] = {}
        self.timers: list[Any] = []
        self.spawner = Spawner()
        self.ends: list[str] = []
        self.said: list[tuple[Any, ...]] = []
        self.size = PoolSize(children)
        parts: Any = self
        spawners: Any = Spawners(parts, self.spawner)  # type: ignore[arg-type]
        dead: Any = SimpleNamespace(settle=lambda child, orderly: self.said.append(("dead", child.index, orderly)))
        outcomes: Any = SimpleNamespace(
            watch=lambda _loop, child: self.said.append(("watched", child.index)),
            unwatch=lambda _loop, child: self.said.append(("unwatched", child.index)),
        )
        self.dispatcher = Dispatcher(parts, max_tasks_per_child=None)
        self.pool = Pool(parts, spawners, parts, self.dispatcher, outcomes, dead, self.size, proc_alive_timeout=10.0)
        self.pool.on_serving.add(lambda child: self.said.append(("serving", child.index)))
        self.pool.on_gone.add(lambda child: self.said.append(("gone", child.index)))
        self.pool.start()

    # -- the loop, and who ends the worker ---------------------------------------------------------------

    def add_reader(self, fd: int, *callback: Any) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def time(self) -> float:
        return self.now

    def call_later(self, _delay: float, callback: Any, *args: Any) -> Any:
        timer = SimpleNamespace(run=lambda: callback(*args))
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def die(self, _error: BaseException) -> None:
        self.ends.append("die")

    def spawner_gone(self) -> None:
        self.ends.append("spawner gone")

    # -- the test ----------------------------------------------------------------------------------------

    def fire(self) -> None:
        """Call the timers that exist now."""
        timers, self.timers = self.timers, []
        for timer in timers:
            timer.run()

    def report(self, *reports: Report) -> None:
        self.spawner.reports += reports
        callback, *args = self.readers[self.spawner.fileno()]
        callback(*args)

    def fork(self, epoch: int) -> ChildProcess:
        """Report a process; a pipe takes the part of its pidfd."""
        read_fd, write_fd = os.pipe()
        os.close(write_fd)
        self.report(Spawned(epoch, 100 + epoch, read_fd))
        return self.pool.children[epoch]

    def serve(self, epoch: int) -> ChildProcess:
        """Have a child come up."""
        child = self.fork(epoch)
        ChildPage(child.link._words).hello(child.pid)
        self.fire()
        assert child.serving
        return child

    def end(self, child: ChildProcess) -> None:
        """Its pidfd fires."""
        callback, *args = self.readers[child.pidfd]
        callback(*args)

    def close(self) -> None:
        for child in self.pool.children.values():
            if child.pidfd >= 0:
                os.close(child.pidfd)
                child.pidfd = -1
            child.link.close()


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.closing(World()) as made:
        yield made


def test_a_child_of_each_slot_is_requested_and_serves_when_it_is_ready() -> None:
    with contextlib.closing(World(children=3)) as world:
        assert world.spawner.asked == [(1, 1), (2, 2), (3, 3)]
        child = world.serve(2)
        assert world.said == [("watched", 2), ("serving", 2)]
        assert world.pool.serving == [child]
        world.serve(1)
        assert [each.index for each in world.pool.serving] == [1, 2]


@pytest.mark.parametrize("status_first", [True, False])
def test_a_child_that_ends_is_settled_and_its_slot_filled(world: World, status_first: bool) -> None:
    child = world.serve(1)
    world.said.clear()
    timers = len(world.timers)
    if status_first:
        world.report(Exited(1, child.pid, -9))
        assert world.said == [], "its pidfd says when it is gone"
        world.end(child)
    else:
        world.end(child)
        assert world.said == [], "the spawner tells how it ended"
        world.report(Exited(1, child.pid, -9))
    assert world.said == [("unwatched", 1), ("dead", 1, False), ("gone", 1)]
    assert (child.state, child.exit_status, child.pidfd) == (ChildState.GONE, -9, -1)
    assert world.spawner.asked == [(1, 1), (2, 1)]
    assert world.pool.deaths == 1
    assert len(world.timers) == timers, "nothing is waited for"
    world.report(Exited(1, child.pid, -9))
    assert world.pool.deaths == 1


def test_a_child_whose_status_nobody_reports_is_settled_all_the_same(world: World) -> None:
    child = world.serve(1)
    world.end(child)
    world.fire()
    assert child.state is ChildState.GONE
    assert world.spawner.asked == [(1, 1), (2, 1)]


def test_a_child_that_cannot_be_forked_is_requested_again(world: World) -> None:
    world.report(SpawnFailed(1, 12), SpawnFailed(99, 12))
    assert world.said == [("gone", 1)]
    assert world.pool.children == {}
    assert world.spawner.asked == [(1, 1)]
    world.fire()
    assert world.spawner.asked == [(1, 1), (2, 1)]
    world.pool.spawn_again(1)
    assert world.spawner.asked == [(1, 1), (2, 1)], "the slot has a child"
    world.pool.spawn_again(2)
    assert world.spawner.asked == [(1, 1), (2, 1)], "there is no such slot"


def test_the_worker_ends_when_no_child_ever_comes_up(world: World) -> None:
    for epoch in (1, 2, 3):
        assert world.ends == []
        world.report(SpawnFailed(epoch, 12))
        world.fire()
    assert world.ends == ["die"]


def test_a_spawner_that_takes_no_request_now_is_asked_again(world: World) -> None:
    world.report(SpawnFailed(1, 12))
    world.spawner.full = True
    world.fire()
    assert world.pool.children == {}
    world.spawner.full = False
    world.fire()
    assert world.spawner.asked == [(1, 1), (3, 1)]


def test_without_a_spawner_no_child_is_replaced_and_the_worker_ends(world: World) -> None:
    child = world.serve(1)
    world.spawner.gone = True
    world.report()
    assert world.ends == ["spawner gone"]
    assert world.spawner.fileno() not in world.readers
    world.end(child)
    world.fire()
    assert world.spawner.asked == [(1, 1)]


def test_a_child_that_a_dead_spawner_has_not_reported_is_not_waited_for(world: World) -> None:
    (child,) = world.pool.children.values()
    world.spawner.gone = True
    world.report()
    assert (world.pool.children, child.state) == ({}, ChildState.GONE)
    assert world.said == [("gone", 1)]
    assert child.link._closed


def test_the_master_reaps_a_child_whose_spawner_has_died(world: World) -> None:
    child = world.serve(1)
    world.spawner.gone = True
    world.report()
    world.spawner.orphan_status = -9
    world.end(child)
    assert (child.exit_status, child.state) == (-9, ChildState.GONE)


def test_a_child_that_comes_up_during_a_stop_is_told_to_leave(world: World) -> None:
    child = world.fork(1)
    world.pool._closing = True
    ChildPage(child.link._words).hello(child.pid)
    world.fire()
    assert child.state is ChildState.RETIRING
    assert child.stopping
    assert world.pool.serving == []
    world.report(Exited(1, child.pid, 0))
    world.end(child)
    assert world.said[-2:] == [("dead", 1, True), ("gone", 1)]
    assert world.pool.deaths == 0, "it left as it was told"
    assert world.spawner.asked == [(1, 1)]


def test_a_slot_that_was_removed_is_not_filled(world: World) -> None:
    child = world.serve(1)
    world.size.drop(1)
    world.report(Exited(1, child.pid, 0))
    world.end(child)
    assert world.spawner.asked == [(1, 1)]


def test_a_child_that_has_a_replacement_gets_no_second(world: World) -> None:
    child = world.serve(1)
    child.replaced = True
    world.pool.retire(child)
    world.report(Exited(1, child.pid, 0))
    world.end(child)
    assert world.spawner.asked == [(1, 1)]


def test_what_a_retiring_child_had_not_begun_is_given_to_others() -> None:
    with contextlib.closing(World(children=2)) as world:
        first, second = world.serve(1), world.serve(2)
        made = [Delivery(1, "q", tag, b"", b"", b"") for tag in (1, 2)]
        for delivery in made:
            world.dispatcher.submit(delivery)
        world.dispatcher.pump()
        assert list(first.assigned.values()) == made[:1]
        world.pool.retire(first)
        world.pool.retire(first)
        assert (first.state, first.assigned) == (ChildState.RETIRING, {})
        assert made[0].state is State.READY
        assert world.dispatcher.waiting == 1
        assert list(second.assigned.values()) == made[1:]


def test_before_a_child_is_killed_what_it_had_not_begun_is_taken_back(pool: Pool, child: ChildProcess) -> None:
    """So it can only sleep after the task for which it is killed."""
    ring: Any = child.link
    pool._dispatcher._depth = 2
    pool._dispatcher.take_up(child)
    unstarted = Delivery(1, "q", 2, b"", b"", b"")
    pool._dispatcher.submit(unstarted)
    pool._dispatcher.pump()
    assert unstarted.state is State.DISPATCHED
    assert pool.kill_running(child, ring.claimed, "time_limit", 1)
    assert (unstarted.state, pool._dispatcher.waiting) == (State.READY, 1)
    assert list(child.assigned) == [ring.claimed]


def test_a_retiring_child_gets_no_more_work(pool: Pool, child: ChildProcess) -> None:
    pool.dismiss(child)
    assert not child.stopping, "nobody told it to leave"
    pool.retire(child)
    assert child.stopping
    later = Delivery(1, "q", 2, b"", b"", b"")
    pool._dispatcher.submit(later)
    pool._dispatcher.pump()
    assert later.state is State.READY
    assert child not in pool._dispatcher.children


def test_a_pool_that_closes_lets_each_child_leave(world: World) -> None:
    child = world.serve(1)
    world.pool.close()
    assert child.state is ChildState.RETIRING
    world.report(Exited(1, child.pid, 0))
    world.end(child)
    assert world.spawner.asked == [(1, 1)]
    assert child.pidfd not in world.readers


def test_kill_all_kills_all_but_some() -> None:
    with contextlib.closing(World(children=2)) as world:
        for child in world.pool.children.values():
            child.state = ChildState.SERVING
        first, second = world.pool.children.values()
        world.pool.kill_all("shutdown", but=lambda child: child is second)
        assert (first.state, first.kill_reason) == (ChildState.KILLED, "shutdown")
        assert second.serving
        world.pool.kill(first, "other", 7)
        assert (first.kill_reason, first.kill_detail) == ("shutdown", None), "the first reason counts"
        assert world.pool.spawn(1) is None


def test_a_corrupt_ring_kills_its_child() -> None:
    with contextlib.closing(World()) as world:
        (child,) = world.pool.children.values()
        child.condemn("garbage")
        assert (child.state, child.kill_reason, child.kill_detail) == (ChildState.KILLED, "corrupt", "garbage")


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that are sent, each with its pidfd."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("signal.pidfd_send_signal", lambda pidfd, number: sent.append((pidfd, number)))
    return sent


def test_a_child_that_is_killed_before_it_is_forked_is_killed_when_it_is(
    world: World, signals: list[tuple[int, int]]
) -> None:
    (child,) = world.pool.children.values()
    world.pool.retire(child)
    assert (child.state, child.kill_reason, signals) == (ChildState.KILLED, "retired", [])
    world.fork(1)
    assert signals == [(child.pidfd, signal.SIGKILL)]
    assert world.timers == [], "it is not expected to come up"


def test_a_soft_limit_signals_the_child_and_names_its_task(world: World, signals: list[tuple[int, int]]) -> None:
    child = world.serve(1)
    world.pool.interrupt(child, 7)
    assert signals == [(child.pidfd, signal.SIGUSR1)]
    assert ChildPage(child.link._words).soft_named() == 7


def test_a_child_that_has_ended_already_is_not_signalled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_pidfd: int, _number: int) -> None:
        raise ProcessLookupError

    child = world.serve(1)
    monkeypatch.setattr("signal.pidfd_send_signal", ended)
    world.pool.kill(child, "memory", None)
    world.end(child)
    world.pool.kill(child, "memory", None)
    assert child.state is ChildState.KILLED
    world.fire()
    assert world.spawner.asked == [(1, 1), (2, 1)]


def test_a_child_that_did_not_come_up_in_time_is_a_failed_start(world: World, signals: list[tuple[int, int]]) -> None:
    child = world.fork(1)
    world.now = 10.1
    world.fire()
    assert (child.kill_reason, signals) == ("boot", [(child.pidfd, signal.SIGKILL)])
    world.report(Exited(1, child.pid, -9))
    world.end(child)
    assert world.spawner.asked == [(1, 1)], "it is requested again after a pause"
    world.fire()
    assert world.spawner.asked == [(1, 1), (2, 1)]


def test_a_child_without_memory_for_its_rings_is_requested_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    child = world.serve(1)
    with monkeypatch.context() as patched:
        patched.setattr("turbo.master.children.pool.MasterLink", no_memory)
        world.report(Exited(1, child.pid, 0))
        world.end(child)
    assert "Too many open files" in caplog.text
    assert world.spawner.asked == [(1, 1)]
    world.fire()
    assert world.spawner.asked == [(1, 1), (3, 1)]


def test_a_spawner_that_has_ended_is_not_asked_again(world: World) -> None:
    world.report(SpawnFailed(1, 12))
    world.spawner.gone = True
    world.fire()
    assert (world.pool.children, world.timers) == ({}, [])


def test_the_master_keeps_none_of_the_descriptors_that_only_a_child_needs(world: World) -> None:
    (child,) = world.pool.children.values()
    tasks, outcomes, page, token, outcome, channel, answer = child.link.child_fds()
    assert [os.path.exists(f"/proc/self/fd/{fd}") for fd in (token, outcome, answer)] == [True] * 3
    assert not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in (tasks, outcomes, page, channel))


def test_the_rings_of_a_child_that_was_not_forked_are_freed(world: World) -> None:
    (child,) = world.pool.children.values()
    world.report(SpawnFailed(1, 12))
    assert child.state is ChildState.GONE
    assert child.link._closed


@pytest.mark.parametrize(("replaced", "kind"), [(False, frames.STOP), (True, frames.MAKE_ROOM)])
def test_a_retiring_child_is_told_whether_another_takes_its_place(
    pool: Pool, child: ChildProcess, replaced: bool, kind: int
) -> None:
    child.replaced = replaced
    pool.retire(child)
    ring: Any = child.link
    assert ring.kinds[-1] == kind


def test_what_a_retiring_child_had_not_begun_is_given_to_a_free_one_at_once() -> None:
    with contextlib.closing(World(children=2)) as world:
        first = world.serve(1)
        world.dispatcher._depth = 2
        world.dispatcher.take_up(first)
        made = [Delivery(1, "q", tag, b"", b"", b"") for tag in (1, 2)]
        for delivery in made:
            world.dispatcher.submit(delivery)
        world.dispatcher.pump()
        assert list(first.assigned.values()) == made
        second = world.serve(2)
        world.pool.retire(first)
        assert list(second.assigned.values()) == made


def test_a_coroutine_that_still_runs_is_killed_at_its_limit(pool: Pool, child: ChildProcess) -> None:
    child.parked[9] = child.assigned[1]
    assert pool.kill_running(child, 9, "time_limit", 1)
    assert child.state is ChildState.KILLED
