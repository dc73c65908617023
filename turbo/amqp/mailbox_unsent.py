"""The replies and events that wait to be sent over the mailbox's connection.

Owned by ``amqp.mailbox``. The number of messages is bounded; one too many is dropped and counted. When the connection
is lost, all are dropped but those that ask to be kept. It must never wait to accept a message.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.amqp.publish.frames import publish_frames, publish_method

if TYPE_CHECKING:
    from turbo.amqp.fast_connection import PublishConnection
    from turbo.amqp.topology import Exchange

logger = logging.getLogger("turbo.amqp.mailbox")

#: Messages that may wait.
_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """A reply or an event."""

    exchange: Exchange
    routing_key: str
    header: bytes
    body: bytes
    #: Sent over the next connection if this one is lost before.
    keep: bool

    def send(self, connection: PublishConnection, channel: int, *, mandatory: bool = False) -> None:
        """Send it over an open channel. Raises ValueError if it cannot be sent."""
        method = publish_method(self.exchange.name, self.routing_key, mandatory=mandatory)
        frame_max = int(connection.params.frame_max or 0)
        pieces = publish_frames(channel, method, self.header, self.body, frame_max)
        connection.emit_frames(b"".join(pieces), 3)


class Unsent:
    """The waiting messages, in the order in which they are sent."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue(_LIMIT)
        #: Number of messages that were dropped instead of sent.
        self.dropped = 0

    def __len__(self) -> int:
        return self._messages.qsize()

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return self._messages.full()

    def add(self, message: Message) -> bool:
        """Add a message; return False if it is dropped because too many wait."""
        if not self._messages.full():
            self._messages.put_nowait(message)
            return True
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            # Log at powers of two only: the broker may be slow for hours.
            logger.warning("%d replies and events dropped: too many wait for the broker", self.dropped)
        return False

    async def next(self) -> Message:
        """Wait for a message and return it; call :meth:`sent` when it is sent."""
        return await self._messages.get()

    def sent(self) -> None:
        """The last message that :meth:`next` returned is sent, or cannot be."""
        self._messages.task_done()

    async def wait_sent(self) -> None:
        """Wait until every message is sent."""
        await self._messages.join()

    def lose_connection(self) -> None:
        """Drop what waits, but for messages to keep: the others are useless later."""
        kept = []
        while not self._messages.empty():
            message = self._messages.get_nowait()
            self._messages.task_done()
            if message.keep:
                kept.append(message)
            else:
                self.dropped += 1
        for message in kept:
            self._messages.put_nowait(message)
