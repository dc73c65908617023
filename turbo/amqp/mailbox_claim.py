"""Notices that the worker's mailbox belongs to another worker of the same node name, and logs that once.

Part of ``amqp.mailbox``, in the master: told what the broker answers to each declaration of the mailbox. It must never
talk to the broker.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.channel_calls import ChannelGone

logger = logging.getLogger("turbo.amqp.mailbox")

#: Reply codes for a mailbox that is there and not ours: exclusive to another connection (405), or declared otherwise by
#: another version's worker (406).
TAKEN: Final = frozenset({405, 406})
#: Seconds in which a broker notices that a connection of ours is dead.
_OWN_LOST: Final = 300.0


class MailboxClaim:
    """Whether the mailbox of one node name is this worker's."""

    def __init__(self, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``node`` is the worker's node name; ``clock`` gives seconds."""
        self._node = node
        self._clock = clock
        self._since: float | None = None
        self._logged = False
        #: This worker has read the mailbox before: then its own lost connection may hold it still.
        self.read = False

    def refused(self, gone: ChannelGone) -> None:
        """The broker refused the declaration."""
        if gone.code in TAKEN:
            self._note(str(gone))

    def declared(self, consumers: int) -> None:
        """The mailbox is there, with so many consumers before ours."""
        if consumers:
            self._note(f"the mailbox has {consumers} consumer(s) already")
        else:
            self._since, self._logged = None, False

    def _note(self, why: str) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
        if self._logged or (self.read and now - self._since < _OWN_LOST):
            return
        self._logged = True
        logger.warning(
            "Another worker named %r is connected to this broker, so remote control and monitors cannot tell the two "
            "apart, and requests may not reach this one: give each worker a name of its own with -n (%s)",
            self._node,
            why,
        )
