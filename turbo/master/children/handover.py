"""Replaces the children of a former spawner, a few at a time.

Runs in the master. Before it: ``master.children.pool_restart``, once the successor's first child serves. After it:
``master.children.pool``, which retires a child and starts another in its slot. At most a quarter of the slots are
without a child that takes work at one time. A child that runs a long task leaves after it, and the others do not wait
for that. It must never interrupt a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.recycling import at_once

if TYPE_CHECKING:
    import asyncio

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.pool import Pool
    from turbo.master.children.pool_size import PoolSize
    from turbo.master.children.spawners import Spawners

#: Seconds after which a retired child that still runs its task no longer holds up the others.
_PATIENCE: Final = 1.0


class Handover:
    """The children to be replaced, and the slots that wait for their new child."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, spawners: Spawners, size: PoolSize) -> None:
        self._loop = loop
        self._pool = pool
        self._spawners = spawners
        self._size = size
        #: Whether there is anything to replace.
        self.active = False
        #: The timers of the slots that wait for a new child, by slot.
        self._slots: dict[int, asyncio.TimerHandle] = {}
        #: Called when the last child of a former spawner has ended.
        self.on_done: Observers[()] = Observers()
        pool.on_serving.add(self._serving)
        pool.on_gone.add(self._gone)

    def begin(self) -> None:
        """Replace every child of a former spawner, also those that come up later."""
        self.active = True
        self._advance()

    @property
    def left(self) -> list[ChildProcess]:
        """The children of former spawners."""
        return [child for child in self._pool.children.values() if self._spawners.is_former(child.epoch)]

    # -- inside ------------------------------------------------------------------------------------------

    def _serving(self, child: ChildProcess) -> None:
        if self.active:
            if not self._spawners.is_former(child.epoch):
                self._let_go(child.index)
            self._advance()

    def _gone(self, child: ChildProcess) -> None:
        if self.active:
            if child.index not in self._size:
                self._let_go(child.index)
            self._advance()

    def _advance(self) -> None:
        left = self.left
        for child in left:
            if len(self._slots) >= at_once(self._size.count):
                break
            if child.serving:
                self._retire(child)
        if not left:
            self.active = False
            for index in list(self._slots):
                self._let_go(index)
            self.on_done()

    def _retire(self, child: ChildProcess) -> None:
        if not self._has_successor(child):
            self._slots[child.index] = self._loop.call_later(_PATIENCE, self._look, child.index)
        self._pool.retire(child)

    def _has_successor(self, child: ChildProcess) -> bool:
        """Whether its slot has a child of the current spawner already."""
        return any(
            other.index == child.index and other.state <= ChildState.SERVING and not self._spawners.is_former(epoch)
            for epoch, other in self._pool.children.items()
        )

    def _look(self, index: int) -> None:
        """Let the others go on if this slot's child still runs its task.

        Otherwise wait for the new one.
        """
        if any(child.index == index for child in self.left):
            self._let_go(index)
            self._advance()

    def _let_go(self, index: int) -> None:
        timer = self._slots.pop(index, None)
        if timer is not None:
            timer.cancel()
