"""Replaces children that are spent, by tasks or by memory.

A hard memory limit is checked in the middle of a task.

Runs in the master. It samples each child's resident memory twice a second, from outside, so that a task cannot hide
it; ``policy.recycling`` decides. A child to be replaced keeps serving until its replacement is ready, and at most a
quarter of the children are replaced at one time. The hard limit kills at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from turbo.policy import recycling
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.recycling import MemoryAction
from turbo.spawner import kernel

if TYPE_CHECKING:
    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.pool import Pool
    from turbo.master.children.pool_size import PoolSize
    from turbo.observers import Observers

logger = logging.getLogger(__name__)

_INTERVAL = 0.5


class Recycling:
    """Samples memory and has the pool replace or kill children."""

    def __init__(
        self,
        pool: Pool,
        ended: Observers[ChildProcess, int],
        size: PoolSize,
        *,
        max_tasks: int | None,
        limit_kib: int | None,
        hard_kib: int | None,
    ) -> None:
        """``ended``: called with a child and the number of its tasks that have just ended."""
        self._pool = pool
        self._size = size
        self._max_tasks = max_tasks
        self._limit = limit_kib
        self._hard = hard_kib
        self._waiting: list[ChildProcess] = []
        #: Epoch of a replacement -> the child that leaves when it is ready.
        self._replacing: dict[int, ChildProcess] = {}
        self._warned: set[int] = set()
        self.replaced = 0
        if max_tasks is not None:
            ended.add(self.child_reported)
        pool.on_serving.add(self.child_serving)
        pool.on_gone.add(self.child_gone)

    async def run(self) -> None:
        """Sample memory until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            self.sample()

    def sample(self) -> None:
        """Read every child's resident memory once and act on it."""
        for child in list(self._pool.children.values()):
            if child.pid == 0 or child.state in (ChildState.KILLED, ChildState.GONE):
                continue
            self._pool.dismiss(child)
            try:
                resident = kernel.resident_bytes(child.pid)
            except OSError as error:
                # No descriptor is free to look with: the next sample may find one.
                logger.warning("Cannot read the memory of child %d: %s", child.index, error)
                return
            if resident is None:
                continue  # it has ended; its pidfd says so
            child.rss_kib = rss = resident // 1024
            child.peak_rss_kib = max(child.peak_rss_kib, rss)
            self._check_memory(child)
        if self._max_tasks is not None:
            # A child whose replacement could not be started reports nothing more, so request it again here.
            for child in self._pool.serving:
                if child.done >= self._max_tasks:
                    self._retire(child)

    def child_reported(self, child: ChildProcess, done: int) -> None:
        """Replace the child if ``done`` more ended tasks use up its number of tasks."""
        if self._max_tasks is not None and child.done >= self._max_tasks:
            logger.info("Child %d (pid %d) has run %d tasks and is replaced", child.index, child.pid, child.done)
            self._retire(child)

    def child_serving(self, child: ChildProcess) -> None:
        """Retire the child that this ready one replaces."""
        leaving = self._replacing.pop(child.epoch, None)
        if leaving is not None:
            self._pool.retire(leaving)
        self._advance()

    def child_gone(self, child: ChildProcess) -> None:
        """Handle the end of a child.

        If it was a replacement, the next sample requests another. Start the next one.
        """
        self._warned.discard(child.epoch)
        leaving = self._replacing.pop(child.epoch, None)
        if leaving is not None:
            leaving.replaced = False
        for epoch, old in list(self._replacing.items()):
            if old is child:
                del self._replacing[epoch]
        if child in self._waiting:
            # Its replacement was not requested yet: the pool fills the slot as after any other death.
            self._waiting.remove(child)
            child.replaced = False
        self._advance()

    # -- inside ------------------------------------------------------------------------------------------

    def _check_memory(self, child: ChildProcess) -> None:
        action = recycling.memory_action(child.rss_kib, limit=self._limit, hard_limit=self._hard)
        if action is MemoryAction.KILL:
            self._kill(child)
        elif action is MemoryAction.RETIRE and child.serving and not child.replaced:
            if child.done == 0 and child.head is None and not child.parked:
                if child.epoch not in self._warned:
                    self._warned.add(child.epoch)
                    logger.warning(
                        "Child %d starts at %d KiB, above max_memory_per_child (%d KiB): it would be replaced "
                        "after every task", child.index, child.rss_kib, self._limit or 0,
                    )  # fmt: skip
                return
            logger.info(
                "Child %d (pid %d) uses %d KiB, more than %d, and is replaced",
                child.index,
                child.pid,
                child.rss_kib,
                self._limit or 0,
            )
            self._retire(child)

    def _kill(self, child: ChildProcess) -> None:
        text = f"child used {child.rss_kib} KiB, more than the hard limit of {self._hard} KiB"
        head = child.head
        if head is not None and self._pool.kill_running(child, head[0], "memory", text):
            return
        if child.parked:
            # Any of the tasks that run at once may use the memory.
            self._pool.kill(child, "memory", text)
        else:
            self._retire(child)

    def _retire(self, child: ChildProcess) -> None:
        if child.replaced or not child.serving:
            return
        child.replaced = True
        self._waiting.append(child)
        self._advance()

    def _advance(self) -> None:
        """Start as many replacements as may run at once."""
        while self._waiting and len(self._replacing) < recycling.at_once(self._size.count):
            child = self._waiting.pop(0)
            if not child.serving:
                child.replaced = False
                continue
            fresh = self._pool.spawn(child.index)
            if fresh is None:
                child.replaced = False
                return
            self.replaced += 1
            self._replacing[fresh.epoch] = child
