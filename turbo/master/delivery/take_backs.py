"""Takes unstarted records back from busy children, for children with room.

Runs in the master, beside the dispatcher. A busy child may hold records ahead (``policy.look_ahead``). They go to
another child as soon as one is free: half of them from behind a short task, all from behind a long one. Nothing more is
put behind a long task. What waits there comes before anything newer: the next child that is free gets it, from behind
the task that has run longest. The rest stays where it is, since its own child may be free first. A busy child that has
room gets it only later, so a child that the system did not schedule for a moment keeps its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from turbo.policy import look_ahead
from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    import asyncio
    from collections import deque
    from collections.abc import Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery

#: Seconds between looks for long tasks while a child holds records ahead.
_LOOK = 0.005


class Rings(Protocol):
    """The part of the dispatcher that this module uses."""

    @property
    def ahead(self) -> int:
        """Records that children hold beyond their first."""

    def reclaim(self, child: ChildProcess, most: int | None = None) -> list[Delivery]:
        """Take back a child's unstarted records, or the newest ``most``."""

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries at the front of the ready queue."""

    def set_aside(self, child: ChildProcess) -> None:
        """Put nothing more into this child's ring."""

    def take_up(self, child: ChildProcess, *, cold: bool = False) -> None:
        """List a child by its load; a free one that is ``cold`` as the last choice."""

    def pump(self) -> None:
        """Hand out ready deliveries."""


class TakeBacks:
    """The look-ahead of all children."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rings: Rings,
        batches: look_ahead.BatchSize,
        children: list[ChildProcess],
        free: deque[ChildProcess],
        partial: deque[ChildProcess],
        ready: deque[Delivery],
    ) -> None:
        """All these collections are the dispatcher's own."""
        self._loop = loop
        self._rings = rings
        self._batches = batches
        self._children = children
        self._free = free
        self._partial = partial
        self._ready = ready
        #: Children that hold records behind a long task.
        self.overdue: list[ChildProcess] = []
        #: Whether a look for long tasks is due.
        self.looking = False

    def for_free_children(self) -> None:
        """Share what children hold ahead until none of it is left or no child is free."""
        rings = self._rings
        while self._free and rings.ahead > 0 and not self._ready:
            victim = max(self._children, key=_held)
            ahead = len(victim.assigned) - 1
            if ahead < 1:
                return
            if look_ahead.gives_back(time.monotonic_ns() - victim.moved_ns, to_a_free_child=True):
                # All, so that they keep their order.
                rings.set_aside(victim)
                taken = rings.reclaim(victim)
            else:
                taken = rings.reclaim(victim, max(1, ahead // 2))
            if not victim.assigned:
                # It had claimed nothing (not scheduled, or stopped): it is still free, and others come first.
                rings.take_up(victim, cold=True)
            if not taken:
                return
            rings.resubmit(taken)
            rings.pump()

    def from_behind_long_tasks(self) -> bool:
        """Put what waits there at the front of the ready queue.

        Do nothing unless another child can take it. What waits behind the task that has run longest comes first; with
        free children, no more is taken than one record for each, and what is behind the same task. Return whether there
        was anything; the caller pumps.
        """
        if not self.overdue or not (self._free or self._partial):
            return False
        now, free = time.monotonic_ns(), len(self._free)
        children, self.overdue = sorted(self.overdue, key=_moved), []
        moved: list[Delivery] = []
        for child in children:
            age = now - child.moved_ns
            if (
                child not in self._children
                or len(child.assigned) < 2
                or not look_ahead.gives_back(age, to_a_free_child=True)
            ):
                continue
            # When each free child has one, only a busy child that has room can take more.
            if not (free > 0 or self._partial) or not look_ahead.gives_back(age, to_a_free_child=free > 0):
                self.overdue.append(child)
                continue
            taken = self._rings.reclaim(child)
            moved += taken
            free -= len(taken)
            if not child.assigned:
                self._rings.take_up(child, cold=True)
        self._rings.resubmit(moved)
        return bool(moved)

    def look_soon(self) -> None:
        """Look for long tasks in a moment."""
        self.looking = True
        self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self.looking = False
        rings = self._rings
        now, in_batches = time.monotonic_ns(), self._batches.batch > 1
        young = False
        self.overdue.clear()
        for child in list(self._children):
            if len(child.assigned) < 2:
                continue
            if not look_ahead.is_overdue(now - child.moved_ns, in_batches=in_batches, begun=_has_begun(child)):
                young = True
                continue
            rings.set_aside(child)
            self.overdue.append(child)
        if self.from_behind_long_tasks():
            rings.pump()
        if young and not self.looking:
            self.look_soon()


def _has_begun(child: ChildProcess) -> bool:
    return next(iter(child.assigned.values())).state is State.STARTED


def _moved(child: ChildProcess) -> int:
    return child.moved_ns


def _held(child: ChildProcess) -> int:
    return len(child.assigned)
