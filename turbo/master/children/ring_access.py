"""The children's task rings, with every fault of one turned into a decision: replace the child, or wait for memory.

Runs in the master, between the dispatcher (with ``master.children.stalled_children`` and ``master.children.pool``) and
the rings. A ring that cannot be believed condemns its child, whatever the master was about to do with it; nothing is
lost by that, since the deliveries stay in the ledger and the child's end settles them. A body that finds no memory or
descriptor of its own is no fault of the child's: its message waits here and is tried again, and messages that need none
go on meanwhile. Nothing here may raise for what a child wrote or the system lacks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State
from turbo.ring.layout import RingCorrupt

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery

logger = logging.getLogger(__name__)

#: Seconds after which messages that found no memory are tried again.
_PAUSE = 0.1
#: Seconds between log lines about that.
_SAY_AGAIN = 10.0


class RingAccess:
    """Takes back from rings and stages into them without raising."""

    def __init__(self, loop: asyncio.AbstractEventLoop, again: Callable[[list[Delivery]], None]) -> None:
        """``again`` is given the messages whose memory may be there now, in their order."""
        self._loop = loop
        self._again = again
        self._postponed: list[Delivery] = []
        self._said = -_SAY_AGAIN
        #: Called with a child whose ring is corrupt, and the reason; the pool replaces it.
        self.on_corrupt: Observers[ChildProcess, str] = Observers()

    def take_back(self, child: ChildProcess) -> int | None:
        """The newest record that the child has not claimed is the master's again: its sequence, or None."""
        try:
            return child.link.take_back()
        except (RingCorrupt, OSError) as error:
            self.condemn(child, error)
            return None

    def stage(self, child: ChildProcess, kind: int) -> int | None:
        """Stage a record without contents; its sequence, or None when there is no room or the child is condemned."""
        try:
            return child.link.stage(kind, (b"",))
        except (RingCorrupt, OSError) as error:
            self.condemn(child, error)
            return None

    def condemn(self, child: ChildProcess, error: Exception) -> None:
        """The child's ring is not to be believed: have it replaced."""
        logger.critical("The task ring of child %d (pid %d) is damaged, it is replaced: %s",
                        child.index, child.pid, error)  # fmt: skip
        self.on_corrupt(child, str(error))

    # -- no memory ---------------------------------------------------------------------------------------

    def postpone(self, delivery: Delivery, error: OSError) -> None:
        """Keep a READY delivery whose body found no memory or descriptor, and try again soon."""
        now = self._loop.time()
        if now - self._said >= _SAY_AGAIN:
            self._said = now
            logger.critical("No memory or descriptor for a body of %d bytes (%s); trying again", delivery.size, error)
        self._postponed.append(delivery)
        if len(self._postponed) == 1:
            self._loop.call_later(_PAUSE, self._retry)

    def withdraw(self) -> list[Delivery]:
        """Give up what waits for memory."""
        postponed, self._postponed = self._postponed, []
        return postponed

    @property
    def postponed(self) -> int:
        """Messages that wait for memory."""
        return len(self._postponed)

    def _retry(self) -> None:
        waiting = [delivery for delivery in self.withdraw() if delivery.state is State.READY]
        if waiting:
            self._again(waiting)
