"""Counts and logs settlements that can no longer be made.

Part of ``amqp.consume.link``, in the master. Such a settlement is normal after a lost connection and a bug otherwise.
Neither may be sent to the broker, which would close the channel. It must never raise.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("turbo.amqp.consume.link")


class StaleAcks:
    """The counters of one link."""

    __slots__ = ("_last_epoch", "stale", "wrong")

    def __init__(self) -> None:
        #: Settlements for a session that was over.
        self.stale = 0
        #: Settlements for a tag of the current session that was already settled or never delivered.
        self.wrong = 0
        self._last_epoch = 0

    def note_stale(self, epoch: int, tag: int) -> None:
        """Count a settlement for a session that is over; log a warning once per session."""
        self.stale += 1
        level = logging.WARNING if epoch != self._last_epoch else logging.DEBUG
        self._last_epoch = epoch
        logger.log(
            level,
            "Delivery %d of session %d was settled after that session ended (%d so far); "
            "the broker delivers its message again",
            tag,
            epoch,
            self.stale,
        )

    def note_wrong(self, epoch: int, tag: int) -> None:
        """Count an acknowledgement for an unknown tag."""
        self.wrong += 1
        logger.error("Delivery %d of session %d is not open: settled twice, or never received", tag, epoch)
