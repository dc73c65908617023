"""Finds children that claim no records.

They are stopped, frozen or starved of CPU time.

Runs in the master, beside the dispatcher. A child that has not claimed a waiting record for about half a second gets no
more work; its unclaimed records go to others. It gets one PROBE record, and claiming it shows that the child works
again. No task may ever run twice: a record moves only when its token was taken back, and claimed records stay with the
child.

A child that hangs in a task is not stalled. Only a hard limit ends it (``master.children.time_limits``). ``celery
inspect active`` shows the task and its child's pid (``control.view``), and ``py-spy dump --pid`` where it hangs.

A check costs one failed read per child with a long task. No checks run while no child holds anything.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from turbo.ring import frames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.ring_access import RingAccess
    from turbo.master.delivery.ledger import Delivery

logger = logging.getLogger(__name__)

#: Seconds between checks; a record waits at most two of them in a stalled child.
_LOOK = 0.4
#: Nanoseconds in which an idle retiring child must claim its STOP record.
_STOP_CLAIM_NS = 2_000_000_000
#: Most nanoseconds between two checks of that, while this process runs.
_ASKED_NS = 500_000_000


class Rings(Protocol):
    """The part of the dispatcher that this module uses."""

    def reclaim(self, child: ChildProcess) -> list[Delivery]:
        """Take every unclaimed record back."""

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries at the front of the ready queue."""

    def set_aside(self, child: ChildProcess) -> None:
        """Give this child no work while it has a probe."""

    def take_up(self, child: ChildProcess) -> None:
        """Give it work again."""

    def pump(self) -> None:
        """Hand out ready deliveries."""


class StalledChildren:
    """Checks for children that do not claim."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rings: Rings, access: RingAccess, children: list[ChildProcess]
    ) -> None:
        """``children`` is the dispatcher's own list."""
        self._loop = loop
        self._rings = rings
        self._access = access
        self._children = children
        #: Whether a check is scheduled; the dispatcher schedules one with the first record after a pause.
        self.looking = False

    def look_soon(self) -> None:
        """Start checking, until no child holds anything."""
        self.looking = True
        self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self.looking = False
        moved = False
        for child in list(self._children):
            if child.probe:
                moved |= self._answered(child)
            elif not child.assigned:
                child.silent = False
            elif child.silent:
                moved |= self._rescue(child)
            else:
                # Every outcome clears this flag, so a child still silent at the next check made no progress in between.
                child.silent = True
        if moved:
            self._rings.pump()
        if not self.looking and any(child.assigned or child.probe for child in self._children):
            self.look_soon()

    def _rescue(self, child: ChildProcess) -> bool:
        """Move the unclaimed records of a silent child.

        Set it aside if it holds nothing else.
        """
        taken = self._rings.reclaim(child)
        if not taken:
            return False
        if not child.assigned and self._probe(child):
            self._rings.set_aside(child)
            logger.warning(
                "Child %d (pid %d) claims nothing; its %d tasks go to others", child.index, child.pid, len(taken)
            )
        self._rings.resubmit(taken)
        return True

    def _answered(self, child: ChildProcess) -> bool:
        """Whether a child that was set aside has claimed its probe.

        It then gets work again.
        """
        if self._access.take_back(child) is not None:
            self._probe(child)
            return False
        if not child.serving:
            return False
        child.link.release(child.probe)
        child.probe = 0
        child.silent = False
        logger.info("Child %d (pid %d) claims again", child.index, child.pid)
        self._rings.take_up(child)
        return True

    def _probe(self, child: ChildProcess) -> bool:
        child.probe = self._access.stage(child, frames.PROBE) or 0
        child.link.commit()
        return child.probe != 0


def stop_sent(child: ChildProcess, now: int) -> None:
    """Note that a retiring child was sent its STOP record.

    ``now`` is ``time.monotonic_ns``.
    """
    child.stopping, child.stopping_since = True, now
    child.leaving_clock.ask(now, _ASKED_NS)


def ignores_stop(child: ChildProcess, rings: RingAccess, now: int) -> bool:
    """Whether an idle retiring child has left its STOP record unclaimed too long.

    Takes the record back if so. Call it repeatedly, ``now`` being ``time.monotonic_ns``: only time in which this
    process ran counts.
    """
    clock = child.leaving_clock
    clock.look(now)
    clock.ask(now, _ASKED_NS)
    return (
        child.stopping
        and not child.assigned
        and not child.parked
        and now - clock.stopped - child.stopping_since > _STOP_CLAIM_NS
        and not child.link.page.running_seq()
        and rings.take_back(child) is not None
    )
