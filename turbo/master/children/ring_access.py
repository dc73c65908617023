"""Takes records back from task rings and stages some; handles ring errors.

Runs in the master, between the dispatcher (with ``master.children.stalled_children`` and ``master.children.pool``) and
the rings. A corrupt ring condemns its child: the child is replaced. Nothing is lost, since the ledger has the
deliveries and the child's end settles them. When no memory or descriptor is left for a body, its message waits here and
is retried, while messages that need none continue. It must never raise because of what a child wrote or what the system
lacks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.ring.layout import RingCorrupt

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery

logger = logging.getLogger(__name__)

#: Seconds after which messages without memory are retried.
_PAUSE = 0.1
#: Seconds between log lines about that.
_SAY_AGAIN = 10.0


class RingAccess:
    """Takes records back from rings and stages records into them without raising."""

    def __init__(self, loop: asyncio.AbstractEventLoop, again: Callable[[list[Delivery]], None]) -> None:
        """``again`` is called with the messages to retry, in order."""
        self._loop = loop
        self._again = again
        self._postponed: list[Delivery] = []
        self._said = -_SAY_AGAIN

    def take_back(self, child: ChildProcess) -> int | None:
        """Take back the newest unclaimed record and return its sequence.

        None when there is none.
        """
        try:
            return child.link.take_back()
        except (RingCorrupt, OSError) as error:
            self.condemn(child, error)
            return None

    def stage(self, child: ChildProcess, kind: int) -> int | None:
        """Stage a record without contents and return its sequence.

        None when full or condemned.
        """
        try:
            return child.link.stage(kind, (b"",))
        except (RingCorrupt, OSError) as error:
            self.condemn(child, error)
            return None

    def condemn(self, child: ChildProcess, error: Exception) -> None:
        """Have a child with a corrupt ring replaced."""
        logger.critical("The task ring of child %d (pid %d) is damaged, it is replaced: %s",
                        child.index, child.pid, error)  # fmt: skip
        child.condemn(str(error))

    # -- no memory ---------------------------------------------------------------------------------------

    def postpone(self, delivery: Delivery, error: OSError) -> None:
        """Keep a READY delivery whose body found no memory or descriptor, and retry soon."""
        now = self._loop.time()
        if now - self._said >= _SAY_AGAIN:
            self._said = now
            logger.critical("No memory or descriptor for a body of %d bytes (%s); trying again", delivery.size, error)
        self._postponed.append(delivery)
        if len(self._postponed) == 1:
            self._loop.call_later(_PAUSE, self._retry)

    def withdraw(self) -> list[Delivery]:
        """Give up the messages that wait for memory."""
        postponed, self._postponed = self._postponed, []
        return postponed

    @property
    def postponed(self) -> int:
        """Number of messages that wait for memory."""
        return len(self._postponed)

    def _retry(self) -> None:
        waiting = [delivery for delivery in self.withdraw() if delivery.state is State.READY]
        if waiting:
            self._again(waiting)
