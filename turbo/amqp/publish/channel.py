"""A channel in confirm mode: sends joined frames and matches the answers.

The publisher makes one in the master on its own connection, and drops it when the channel closes. It must never decide
what happens to messages in flight at that time: it returns all of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from turbo.amqp.channel_calls import ChannelCalls, ChannelGone
from turbo.amqp.publish.answers import AnswerReader, Returned
from turbo.amqp.publish.confirms import ConfirmLedger, Outgoing, Published
from turbo.amqp.publish.frames import publish_frames, publish_in_parts

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator, Sequence

    from turbo.amqp.fast_connection import PublishConnection

logger = logging.getLogger("turbo.amqp.publish.publisher")

#: Bytes from which a message is sent in parts, over several passes of the event loop.
LARGE = 256 * 1024
#: Bytes of one part. pika copies what a partial send leaves over, so a large message must not be one write.
PART_BYTES = 256 * 1024
#: Bytes that may wait for the socket before sending pauses.
UNSENT_LIMIT = 2 * 1024 * 1024
#: Seconds between checks whether the socket has accepted them.
SOCKET_PAUSE = 0.002
#: Most bytes in flight; a larger message is sent alone.
WINDOW_BYTES = 16 * 1024 * 1024


class PublishChannel:
    """One confirmed channel. ``gone`` resolves when it closes."""

    def __init__(
        self,
        connection: PublishConnection,
        calls: ChannelCalls,
        answered: Callable[[Outgoing, Published], None],
        room: Callable[[], None],
        window: int,
    ) -> None:
        self._connection = connection
        self._calls = calls
        self._answered = answered
        self._room = room
        self._window = window
        self._ledger = ConfirmLedger()
        self._frame_max = int(connection.params.frame_max or 0)
        #: The rest of a large message that is being sent.
        self._parts: Iterator[bytes] | None = None
        self._again: asyncio.TimerHandle | None = None
        self.gone = calls.closed
        #: Set between Connection.Blocked and Connection.Unblocked.
        self.blocked = False

    @classmethod
    async def open(
        cls,
        connection: PublishConnection,
        answered: Callable[[Outgoing, Published], None],
        room: Callable[[], None],
        *,
        window: int,
    ) -> PublishChannel:
        """Open a channel and enable confirms. Raises ``ChannelGone``.

        ``answered(message, how)`` is called for every message that ends, ``room()`` when more can be sent.
        """
        calls = await ChannelCalls.open(connection)
        self = cls(connection, calls, answered, room, window)
        await calls.confirm()
        connection.watch_answers(calls.number, AnswerReader(calls.number, self._on_confirm, self._on_return))
        return self

    @property
    def in_flight(self) -> int:
        """Number of messages sent and not answered."""
        return len(self._ledger)

    def send_from(self, queue: deque[Outgoing]) -> int:
        """Send messages from the head of ``queue`` as far as the window allows.

        Return the bytes taken off it.
        """
        taken = 0
        small: list[bytes] = []
        gathered = 0
        while queue and self._may_send(queue[0]):
            message = queue.popleft()
            taken += message.size
            number = self._calls.number
            try:
                if message.size >= LARGE:
                    self._write(small)
                    small, gathered = [], 0
                    self._parts = publish_in_parts(
                        number, message.method, message.header, message.body, self._frame_max, PART_BYTES
                    )
                    self._ledger.sent(message)
                    self._send_parts()
                else:
                    small += publish_frames(number, message.method, message.header, message.body, self._frame_max)
                    self._ledger.sent(message)
                    gathered += message.size
                    if gathered >= PART_BYTES:
                        self._write(small)
                        small, gathered = [], 0
            except ValueError as error:
                logger.error("A message to exchange %r cannot be sent: %s", message.exchange, error)
                self._answered(message, Published.REFUSED)
        self._write(small)
        return taken

    def _may_send(self, message: Outgoing) -> bool:
        ledger = self._ledger
        if not self._calls.is_open or not self._connection.is_open:
            return False
        if self._parts is not None and not self._send_parts():
            return False
        if self.blocked:
            return False
        if not ledger:
            return True
        if message.suspect or (len(ledger) == 1 and ledger.oldest().suspect):
            # A suspect is sent alone.
            return False
        return (
            len(ledger) < self._window
            and ledger.size + message.size <= WINDOW_BYTES
            and self._connection.unsent_bytes < UNSENT_LIMIT
        )

    def _send_parts(self) -> bool:
        """Continue sending a large message as far as the socket accepts it.

        Return whether it is complete.
        """
        parts = self._parts
        while parts is not None and self._connection.unsent_bytes < UNSENT_LIMIT:
            part = next(parts, None)
            if part is None:
                self._parts = parts = None
            else:
                self._write([part])
        if parts is None:
            return True
        if self._again is None and not self.blocked:
            self._again = asyncio.get_running_loop().call_later(SOCKET_PAUSE, self._look_again)
        return False

    def _look_again(self) -> None:
        self._again = None
        if self._parts is not None and self._calls.is_open:
            self._send_parts()
        if self._parts is None:
            self._room()

    def _write(self, pieces: Sequence[bytes]) -> None:
        if pieces:
            # A frame has about two pieces; the counter only feeds pika's statistics.
            self._connection.emit_frames(b"".join(pieces), (len(pieces) + 1) // 2)

    def _on_confirm(self, number: int, multiple: bool, taken: bool) -> None:
        for message in list(self._ledger.answered(number, multiple)):
            if not taken:
                self._answered(message, Published.NACKED)
            else:
                self._answered(message, Published.RETURNED if message.returned else Published.CONFIRMED)

    def _on_return(self, returned: Returned) -> None:
        if not self._ledger.came_back(returned.exchange, returned.routing_key, returned.body):
            logger.error(
                "The broker returned a message to exchange %r with key %r that is not in flight (%d %s)",
                returned.exchange,
                returned.routing_key,
                returned.code,
                returned.text,
            )

    def set_blocked(self, blocked: bool) -> None:
        """Note that the broker stops (True) or resumes reading from the connection."""
        self.blocked = blocked
        if not blocked:
            self._look_again()

    def abandon(self) -> tuple[list[Outgoing], Outgoing | None]:
        """Return the messages to send again, and the one that closed the channel.

        The messages in flight keep their order. The other is None unless it is certain. A broker that closes a channel
        over a message does not name it. All in flight become suspects and are sent alone from then on: one that closes
        the channel again is the cause.
        """
        self._connection.watch_blocking(None)
        self._connection.watch_answers(self._calls.number, None)
        self._parts = None
        if self._again is not None:
            self._again.cancel()
        messages = self._ledger.abandon()
        for message in messages:
            message.returned = False
        if not _blames_content(self.gone):
            return messages, None
        if len(messages) == 1:
            return [], messages[0]
        for message in messages:
            message.suspect = True
        return messages, None


def _blames_content(gone: asyncio.Future[ChannelGone]) -> bool:
    """Whether what was sent made the broker close the channel or the connection."""
    return gone.done() and not gone.cancelled() and gone.result().blames_us
