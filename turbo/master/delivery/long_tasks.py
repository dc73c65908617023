"""Takes unstarted records back from children whose running task takes long.

Runs in the master, beside the dispatcher, every few milliseconds while any child holds more than one record. It must
never take back a record that a child has claimed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from turbo.policy import look_ahead

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery

#: Seconds between two checks.
_CHECK = 0.005


class Hands(Protocol):
    """The part of the dispatcher that this module uses."""

    @property
    def ahead(self) -> int:
        """Records that children hold beyond their first."""

    def reclaim(self, child: ChildProcess) -> list[Delivery]:
        """Take every unclaimed record back."""

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries at the front of the ready queue."""

    def set_aside(self, child: ChildProcess) -> None:
        """Give this child no work until one of its tasks ends."""

    def take_up(self, child: ChildProcess) -> None:
        """Give it work again."""

    def pump(self) -> None:
        """Hand out ready deliveries."""


class LongTasks:
    """Checks the children's running tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hands: Hands, children: list[ChildProcess]) -> None:
        """``children`` is the dispatcher's own list."""
        self._loop = loop
        self._hands = hands
        self._children = children
        #: Whether a check is scheduled; the dispatcher schedules one with the first record that it hands out ahead.
        self.looking = False

    def look_soon(self) -> None:
        """Start checking, until no child holds more than one record."""
        self.looking = True
        self._loop.call_later(_CHECK, self._look)

    def _look(self) -> None:
        self.looking = False
        hands, limit = self._hands, time.monotonic_ns() - look_ahead.STALL_NS
        for child in list(self._children):
            if len(child.assigned) > 1 and child.moved_ns < limit:
                hands.resubmit(hands.reclaim(child))
                hands.set_aside(child)
                if not child.assigned:
                    # It had claimed nothing (not scheduled, or stopped), so it is still free.
                    hands.take_up(child)
        hands.pump()
        if hands.ahead and not self.looking:
            self.look_soon()
