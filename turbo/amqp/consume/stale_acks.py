"""Counts and tells of settlements that cannot be made any more.

Part of ``amqp.consume.link``, in the master. Such a settlement is normal after a lost connection, and a fault of ours
in any other case; neither may go to the broker, which would close the channel over it. It must never raise.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("turbo.amqp.consume.link")


class StaleAcks:
    """The counters of one link."""

    __slots__ = ("_last_epoch", "stale", "wrong")

    def __init__(self) -> None:
        #: For a session that was over.
        self.stale = 0
        #: For a tag of the current session that was settled already or never delivered.
        self.wrong = 0
        self._last_epoch = 0

    def note_stale(self, epoch: int, tag: int) -> None:
        """One came for a session that is over; told aloud once a session."""
        self.stale += 1
        level = logging.WARNING if epoch != self._last_epoch else logging.DEBUG
        self._last_epoch = epoch
        logger.log(
            level,
            "delivery %d of session %d is settled after that session ended (%d so far); "
            "the broker delivers its message again",
            tag,
            epoch,
            self.stale,
        )

    def note_wrong(self, epoch: int, tag: int) -> None:
        """One came for a tag that is not open."""
        self.wrong += 1
        logger.error("delivery %d of session %d is not open: settled twice, or never received", tag, epoch)
