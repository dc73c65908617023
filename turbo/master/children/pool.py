"""Starts, replaces, retires and kills the children, and notices when one ends.

Runs in the master. It asks ``master.children.spawners`` for processes, hears of them from there, and watches each child
through its pidfd. ``policy.child_lifecycle`` is the table of a child's states. ``master.children.dead_child``
decides about the deliveries of a dead child; ``master.children.recycling`` watches memory and task counts. It must
never reuse a child's links.

A slot is one of the places of ``master.children.pool_size``; an incarnation is one child in it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Protocol

from turbo.master.children.boot import Boot
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.stalled_children import ignores_stop, stop_sent
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState
from turbo.ring import frames
from turbo.ring.link import BodyFiles, MasterLink, RingUnavailable
from turbo.spawner.handle import SpawnerGone
from turbo.spawner.messages import Exited, Spawned

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turbo.master.children.dead_child import DeadChild
    from turbo.master.children.pool_size import PoolSize
    from turbo.master.children.spawners import Spawners
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.outcome.outcomes import Outcomes
    from turbo.spawner.handle import Spawner
    from turbo.spawner.messages import Report

logger = logging.getLogger(__name__)

#: Seconds that the master waits for the spawner's exit report after a pidfd fired; only the log needs it.
_STATUS_WAIT = 1.0
_KILL = signal.SIGKILL


class WorkerEnds(Protocol):
    """The part of the master that ends the worker because no child can be made."""

    def die(self, error: BaseException) -> None:
        """End now: no child comes up."""

    def spawner_gone(self) -> None:
        """Finish the running tasks and end: the spawner process has ended."""


class Pool:
    """The children of this worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        spawners: Spawners,
        ends: WorkerEnds,
        dispatcher: Dispatcher,
        outcomes: Outcomes,
        dead_child: DeadChild,
        size: PoolSize,
        *,
        proc_alive_timeout: float,
    ) -> None:
        self._loop = loop
        self._spawners = spawners
        self._ends = ends
        self._dispatcher = dispatcher
        self._outcomes = outcomes
        self._dead_child = dead_child
        self._size = size
        self._boot = Boot(loop, self, alive_timeout=proc_alive_timeout)
        self._epochs = 0
        self._body_files = BodyFiles()
        #: Every incarnation whose pidfd has not fired, by epoch.
        self.children: dict[int, ChildProcess] = {}
        self._awaiting_status: dict[int, asyncio.TimerHandle] = {}
        self._closing = False
        #: Called when a child has begun to serve, and when one has ended.
        self.on_serving: Observers[ChildProcess] = Observers()
        self.on_gone: Observers[ChildProcess] = Observers()
        self.deaths = 0
        spawners.on_report.add(self._reported)
        spawners.on_lost.add(self._lost)

    def start(self) -> None:
        """Request all children and start listening to the spawner."""
        self._spawners.listen(self._spawners.current)
        for index in self._size.slots:
            self.spawn(index)

    # -- spawning ----------------------------------------------------------------------------------------

    def spawn(self, index: int, of: Spawner | None = None) -> ChildProcess | None:
        """Request a child in slot ``index``, of the current spawner or of ``of``."""
        if self._closing:
            return None
        self._epochs += 1
        try:
            link = MasterLink(self._epochs, files=self._body_files)
        except (OSError, RingUnavailable) as error:
            logger.error("No memory or descriptors for a child's rings (%s); trying again", error)
            self._boot.failed(index)
            return None
        child = ChildProcess(index, self._epochs, link, self._loop.time(), self._corrupt)
        try:
            self._spawners.request(child.epoch, index, link.child_fds(), of)
        except (BlockingIOError, SpawnerGone):
            link.close()
            if not self._spawners.current.gone:
                self._boot.failed(index)
            return None
        self.children[child.epoch] = child
        link.close_child_fds()
        return child

    def spawn_again(self, index: int) -> None:
        """Retry a failed start, unless the slot is gone or has a child."""
        if index in self._size and not any(
            c.index == index and c.state <= ChildState.SERVING for c in self.children.values()
        ):
            self.spawn(index)

    def cannot_start(self, error: BaseException) -> None:
        """Give up: no child can be started."""
        self._ends.die(error)

    def _reported(self, event: Report) -> None:
        if isinstance(event, Spawned):
            self._spawned(event)
        elif isinstance(event, Exited):
            self._exited(event)
        else:
            logger.error("Cannot fork a child: %s", os.strerror(event.errno))
            self._not_spawned(event.epoch)

    def _lost(self, spawner: Spawner, epochs: list[int]) -> None:
        """Drop the children that a dead spawner has not reported, or end the worker."""
        if current := spawner is self._spawners.current:
            self._closing = True
        for epoch in epochs:
            if self.children[epoch].pidfd < 0 and epoch not in self._awaiting_status:
                self._not_spawned(epoch)
        if current:
            self._ends.spawner_gone()

    def _not_spawned(self, epoch: int) -> None:
        child = self.children.pop(epoch, None)
        if child is not None:
            child.move(ChildState.GONE)
            child.link.close()
            self.on_gone(child)
            self._spawners.forget(epoch)
            self._boot.failed(child.index)

    def _spawned(self, event: Spawned) -> None:
        child = self.children[event.epoch]
        child.pid, child.pidfd = event.pid, event.pidfd
        self._loop.add_reader(event.pidfd, self._ended, child)
        if child.state is ChildState.KILLED:
            _signal(child, signal.SIGKILL)  # killed before it had a process
        else:
            self._boot.watch(child)

    def serving_now(self, child: ChildProcess) -> None:
        """Read the outcomes of a child that became ready, and give it work."""
        child.move(ChildState.SERVING)
        self._outcomes.watch(self._loop, child)
        if self._closing:
            self.retire(child)
            return
        self._dispatcher.add_child(child)
        self.on_serving(child)

    # -- ending ------------------------------------------------------------------------------------------

    def retire(self, child: ChildProcess) -> None:
        """Let this child leave after its task; hand its unstarted records on."""
        was = child.state
        if was <= ChildState.SERVING:
            child.move(ChildState.RETIRING)
        if was is ChildState.STARTING:
            self.kill(child, "retired", None)
        if was is not ChildState.SERVING:
            return
        self._dispatcher.remove_child(child)
        self._dispatcher.resubmit(self._dispatcher.reclaim(child))
        self.dismiss(child)
        self._dispatcher.pump()

    def dismiss(self, child: ChildProcess) -> None:
        """Send a retiring child STOP, once; kill an idle one that does not claim it."""
        if child.state is not ChildState.RETIRING:
            return
        if child.stopping:
            if ignores_stop(child, self._dispatcher.rings, time.monotonic_ns()):
                self.kill(child, "did not leave", None)
            return
        replaced = child.replaced or (self._spawners.is_former(child.epoch) and not self._closing)
        if self._dispatcher.rings.stage(child, frames.MAKE_ROOM if replaced else frames.STOP) is not None:
            stop_sent(child, time.monotonic_ns())
            child.link.commit()

    def interrupt(self, child: ChildProcess, seq: int) -> None:
        """Raise the soft limit in ``seq`` and in no other task."""
        child.link.page.set_soft(seq)
        _signal(child, signal.SIGUSR1)

    def kill_running(self, child: ChildProcess, seq: int, reason: str, detail: object, number: int = _KILL) -> bool:
        """Kill the child if it still runs ``seq``; see ``time_limits`` why it is safe."""
        self._dispatcher.remove_child(child)
        self._dispatcher.resubmit(self._dispatcher.reclaim(child))
        if seq in child.parked:
            child.limited = seq
        elif (running := child.link.page.running()) is None or running.seq != seq:
            if child.serving:
                self._dispatcher.add_child(child)
            self.dismiss(child)
            return False
        self.kill(child, reason, detail, number)
        self._dispatcher.pump()
        return True

    def kill(self, child: ChildProcess, reason: str, detail: object, number: int = _KILL) -> None:
        """Signal the child to end, perhaps again; its group ends when it is reaped."""
        if child.state < ChildState.KILLED:
            child.move(ChildState.KILLED)
            child.kill_reason, child.kill_detail = reason, detail
            self._dispatcher.remove_child(child)
        _signal(child, number)

    def _corrupt(self, child: ChildProcess, reason: str) -> None:
        self.kill(child, "corrupt", reason)

    def _ended(self, child: ChildProcess) -> None:
        """Handle an ended child's pidfd; its status, for texts, may come a bit later."""
        self._loop.remove_reader(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1
        if child.exit_status is not None or self._spawners.is_lost(child.epoch):
            self._remove_ended(child)
            return
        self._awaiting_status[child.epoch] = self._loop.call_later(_STATUS_WAIT, self._remove_ended, child)

    def _exited(self, event: Exited) -> None:
        if (child := self.children.get(event.epoch)) is not None:
            child.exit_status = event.status
            if timer := self._awaiting_status.pop(event.epoch, None):
                timer.cancel()
                self._remove_ended(child)

    def _remove_ended(self, child: ChildProcess) -> None:
        self._awaiting_status.pop(child.epoch, None)
        if child.exit_status is None:
            child.exit_status = self._spawners.reap(child.epoch, child.pid)
        del self.children[child.epoch]
        was = child.state
        child.move(ChildState.GONE)
        self._dispatcher.remove_child(child)
        if was is not ChildState.STARTING:
            self._outcomes.unwatch(self._loop, child)
        self.deaths += was is not ChildState.RETIRING
        try:
            self._dead_child.settle(child, orderly=was is ChildState.RETIRING)
        finally:
            # Whatever happens to its deliveries, free its memory and fill its slot.
            child.link.close()
            self._fill(child, was)

    def _fill(self, child: ChildProcess, was: ChildState) -> None:
        """Report the end of a child and start another in its slot, if that still exists."""
        self.on_gone(child)
        self._spawners.forget(child.epoch)
        if not self._closing and not child.replaced and child.index in self._size:
            if was is ChildState.STARTING or child.kill_reason == "boot":
                self._boot.failed(child.index)
            else:
                self.spawn_again(child.index)
        self._dispatcher.balance()

    # -- shutdown ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Replace no more children, and let each leave after its running task."""
        self._closing = True
        for child in list(self.children.values()):
            self.retire(child)

    def kill_all(self, reason: str, *, but: Callable[[ChildProcess], bool] = lambda _child: False) -> None:
        """Kill every child now, except those for which ``but`` is true."""
        self._closing = True
        for child in list(self.children.values()):
            if not but(child):
                self.kill(child, reason, None)

    @property
    def serving(self) -> list[ChildProcess]:
        """Children that may be given work, by slot."""
        return sorted((c for c in self.children.values() if c.serving), key=lambda c: c.index)


def _signal(child: ChildProcess, number: int) -> None:
    if child.pidfd < 0:
        return
    try:
        signal.pidfd_send_signal(child.pidfd, number)
    except ProcessLookupError:
        return  # it has ended; its pidfd is about to say so
