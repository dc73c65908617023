"""Consumers that are over here while the broker may still deliver to them: each is ended from this side as well.

Part of ``amqp.consume.session``, in the master. RabbitMQ 4.3 sends the cancel of a consumer whose timeout has passed
and yet keeps it registered, and delivers to it again as soon as something is settled there. A delivery given back to
such a consumer would come straight back, for ever. So a cancel goes out before anything is given back: the channel
carries both in that order. It must never wait for an answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.amqp.consume.settle_frames import cancel_frame

if TYPE_CHECKING:
    import asyncio

    from turbo.amqp.fast_connection import FastConnection

logger = logging.getLogger("turbo.amqp.consume.session")

#: Seconds in which deliveries may still come for a consumer that was ended: they were on their way.
LAST_DELIVERIES = 5.0


class EndedConsumers:
    """The consumers of one channel that were ended, by their tags."""

    def __init__(self, connection: FastConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        #: The number of the channel, once it is open.
        self.channel = 0
        #: When each was ended, by the loop's clock in seconds.
        self._since: dict[bytes, float] = {}

    def end(self, tag: bytes) -> None:
        """Tell the broker that a consumer is over, whatever it thinks of it."""
        self._since[tag] = self._loop.time()
        self._connection.emit_frames(cancel_frame(self.channel, tag), 1)

    def refuse(self, tag: bytes) -> None:
        """Deliveries came for a consumer that is not known: end it once; the caller then gives them back.

        A broker that goes on delivering to it loses the connection.
        """
        since = self._since.get(tag)
        if since is None:
            logger.error(
                "Deliveries came for the unknown consumer %r: it is cancelled, and they are given back",
                tag.decode("utf-8", "replace"),
            )
            self.end(tag)
        elif self._loop.time() - since > LAST_DELIVERIES:
            self._connection.abandon(f"the broker goes on delivering to the cancelled consumer {tag!r}")
