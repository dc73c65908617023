"""Cancels consumers that have ended here but may still exist in the broker.

Part of ``amqp.consume.session``, in the master. RabbitMQ 4.3 sends the cancel of a consumer whose timeout has passed
but keeps it registered, and delivers to it again as soon as something is settled there. A delivery given back to such
a consumer would return at once, endlessly. So the cancel is sent before anything is given back; the channel keeps that
order. It must never wait for an answer.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from turbo.amqp.fast_connection import FastConnection

logger = logging.getLogger("turbo.amqp.consume.session")

#: Seconds in which deliveries already on their way may arrive for a cancelled consumer.
LAST_DELIVERIES = 5.0

#: type, channel, size, class, method: the front of any method's frame.
_METHOD = struct.Struct(">BHIHH").pack
_BASIC = 60
_CANCEL = 30
_END = 0xCE


class EndedConsumers:
    """The ended consumers of one channel, by tag."""

    def __init__(self, connection: FastConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        #: The number of the channel, once it is open.
        self.channel = 0
        #: When each consumer was cancelled, in seconds of the loop's clock.
        self._since: dict[bytes, float] = {}

    def end(self, tag: bytes) -> None:
        """Cancel a consumer at the broker, even if the broker has already ended it."""
        self._since[tag] = self._loop.time()
        self._connection.emit_frames(cancel_frame(self.channel, tag), 1)

    def refuse(self, tag: bytes) -> None:
        """Cancel the unknown consumer of a delivery once.

        The caller then gives the deliveries back. The connection is closed if the broker keeps delivering to it.
        """
        since = self._since.get(tag)
        if since is None:
            logger.error(
                "Deliveries arrived for the unknown consumer %r; cancelling it and giving the deliveries back",
                tag.decode("utf-8", "replace"),
            )
            self.end(tag)
        elif self._loop.time() - since > LAST_DELIVERIES:
            self._connection.abandon(f"the broker keeps delivering to the cancelled consumer {tag!r}")


def cancel_frame(channel: int, consumer_tag: bytes) -> bytes:
    """Return the frame that ends a consumer without an answer (Basic.Cancel)."""
    arguments = bytes((len(consumer_tag),)) + consumer_tag + b"\x01"
    return _METHOD(1, channel, 4 + len(arguments), _BASIC, _CANCEL) + arguments + bytes((_END,))
