"""Detects another worker with the same node name on this worker's mailbox.

It logs that.

Part of ``amqp.mailbox``, in the master, which passes it the broker's answer to each declaration of the mailbox. It must
never talk to the broker.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.channel_calls import ChannelGone

logger = logging.getLogger("turbo.amqp.mailbox")

#: Reply codes for another worker's mailbox: exclusive to another connection (405), or declared with other properties by
#: a worker of another version (406).
TAKEN: Final = frozenset({405, 406})
#: Seconds after which the broker has surely noticed that an old connection of this worker is dead.
_OWN_LOST: Final = 300.0


class MailboxClaim:
    """Whether the mailbox of one node name belongs to this worker."""

    def __init__(self, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``node`` is the worker's node name; ``clock`` returns seconds."""
        self._node = node
        self._clock = clock
        self._since: float | None = None
        self._logged = False
        #: Whether this worker has consumed the mailbox before: its own lost connection may then still hold it.
        self.was_read = False

    def refused(self, gone: ChannelGone) -> None:
        """Record that the broker refused the declaration."""
        if gone.code in TAKEN:
            self._note(str(gone))

    def declared(self, consumers: int) -> None:
        """Record that the mailbox exists and has ``consumers`` other consumers."""
        if consumers:
            self._note(f"the mailbox has {consumers} consumer(s) already")
        else:
            self._since, self._logged = None, False

    def _note(self, why: str) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
        # After a reconnect the broker may still count this worker's own dead connection, so wait before warning.
        if self._logged or (self.was_read and now - self._since < _OWN_LOST):
            return
        self._logged = True
        logger.warning(
            "Another worker named %r is connected to this broker, so remote control and monitors cannot tell the two "
            "apart, and requests may not reach this one: give each worker a name of its own with -n (%s)",
            self._node,
            why,
        )
