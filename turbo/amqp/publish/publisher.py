"""Publishes everything that the worker sends.

These are follow-ups, retries, events, replies and results by message.

Owned by the master, on a connection of its own: a broker in alarm stops reading from connections that publish, and
acknowledgements must go on. Every message is confirmed, sent again after a lost connection (so it may arrive twice),
and ends in exactly one ``Published``. It must never consume, block or lose a message silently.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from turbo.amqp.channel_calls import ChannelGone
from turbo.amqp.dialer import STABLE, Dialer, endpoints_for
from turbo.amqp.fast_connection import PublishConnection
from turbo.amqp.publish.channel import PublishChannel
from turbo.amqp.publish.confirms import Outgoing, Published
from turbo.amqp.publish.frames import publish_method
from turbo.amqp.publish.nack_retry import NackRetry
from turbo.amqp.write_coalescer import WriteCoalescer
from turbo.observers import Observers
from turbo.policy.publisher_room import PublisherRoom
from turbo.policy.restarts import BROKER_BACKOFF, Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.amqp.dialer import FailureObserver
    from turbo.amqp.outages import Outages
    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress

__all__ = ["Published", "Publisher"]

logger = logging.getLogger("turbo.amqp.publish.publisher")

#: Messages in flight. Measured time to a confirm: 20 in flight 1.5 ms, 100 5.5 ms, 500 28 to 45 ms.
WINDOW = 100


class Publisher:
    """The publishing side of a worker. The constructor reads TLS files."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        *,
        heartbeat: float = 120.0,
        tls: TlsOptions | None = None,
        name: str = "turbo",
        connection_timeout: float = 5.0,
        window: int = WINDOW,
        limit: int = 50_000,
        limit_bytes: int = 256 * 1024 * 1024,
        backoff: Backoff = BROKER_BACKOFF,
        outages: Outages | None = None,
        on_failure: FailureObserver | None = None,
    ) -> None:
        """``limit`` messages, ``limit_bytes`` bytes may wait; more end as FAILED."""
        endpoints = endpoints_for(
            addresses, heartbeat=heartbeat, tls=tls, name=f"{name} publisher", timeout=connection_timeout
        )
        self.dialer: Dialer[PublishConnection] = Dialer(
            endpoints, PublishConnection.open, purpose="publishing", outages=outages, backoff=backoff,
            on_failure=on_failure,
        )  # fmt: skip
        self._outages = self.dialer.outages
        self._backoff = backoff
        self._window = window
        self._room = PublisherRoom(limit, limit_bytes)
        #: Called when :attr:`congested` turns false again.
        self.on_relief: Observers[()] = Observers()
        #: Called when :attr:`connected` turns true and when :attr:`blocked` changes.
        self.on_ready: Observers[()] = Observers()
        self._queue: deque[Outgoing] = deque()
        self._queue_bytes = 0
        self._nack_retry = NackRetry(self._send_again)
        self._channel: PublishChannel | None = None
        self._connection: PublishConnection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._coalescer: WriteCoalescer | None = None
        self._stopped = False
        self._empty = asyncio.Event()
        self._empty.set()
        #: Why the message that is ending was refused, for its ``done`` to read; "" at any other time.
        self.refusal = ""
        #: Number of messages refused because too many waited.
        self.refused = 0
        #: Number of ended messages by result.
        self.ended: dict[Published, int] = dict.fromkeys(Published, 0)
        #: Number of messages sent again after a lost channel.
        self.resent = 0

    # -- publishing

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        mandatory: bool = False,
        patient: bool = False,
        done: Callable[[Published], None] | None = None,
    ) -> None:
        """Queue one message; ``done`` is called once, later, from the loop.

        ``header`` is a content header's payload (``protocol.properties``). A ``patient`` message is sent again for some
        seconds when the broker does not take it, as for a queue that is full and refuses, before it ends as NACKED.
        Never raises: what AMQP cannot carry, as a name over 255 bytes, ends as REFUSED.
        """
        try:
            method = publish_method(exchange, routing_key, mandatory)
        except ValueError as error:
            logger.error("A message cannot be sent: %s", error)
            unsendable = Outgoing(exchange, routing_key, b"", header, body, mandatory, done)
            asyncio.get_running_loop().call_soon(self._end, unsendable, Published.REFUSED, str(error))
            return
        message = Outgoing(exchange, routing_key, method, header, body, mandatory, done, patient)
        backlog = self.backlog
        if self._stopped or (self._queue and self._room.is_full(backlog, self._queue_bytes + message.size)):
            self._refuse(message)
            return
        self._queue.append(message)
        self._queue_bytes += message.size
        self._room.grown(backlog + 1, self._queue_bytes)
        self._empty.clear()
        if self._coalescer is not None:
            self._coalescer.mark()

    def _refuse(self, message: Outgoing) -> None:
        self.refused += 1
        # Logged at powers of two: at once, then ever more rarely.
        if self.refused & (self.refused - 1) == 0:
            logger.error(
                "%d messages refused: %s",
                self.refused,
                "the publisher is closed" if self._stopped else f"{self.backlog} wait for the broker already",
            )
        asyncio.get_running_loop().call_soon(partial(self._end, message, Published.FAILED, said=True))

    @property
    def backlog(self) -> int:
        """Number of messages that have not ended."""
        in_flight = 0 if self._channel is None else self._channel.in_flight
        return len(self._queue) + len(self._nack_retry) + in_flight

    @property
    def blocked(self) -> bool:
        """Whether the broker asked to stop publishing (memory or disk alarm)."""
        return self._channel is not None and self._channel.blocked

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._channel is not None

    @property
    def congested(self) -> bool:
        """Whether too much waits to produce more messages: see ``policy.publisher_room``."""
        return self._room.congested

    def _flush(self, _last: bool) -> bool:
        channel = self._channel
        if channel is not None and self._queue:
            sent = channel.send_from(self._queue)
            self._queue_bytes -= sent
        return False

    def _answered(self, message: Outgoing, how: Published) -> None:
        if how is not Published.NACKED or self._stopped or not self._nack_retry.hold(message):
            self._end(message, how)
        self._resume()

    def _send_again(self, message: Outgoing) -> None:
        self._queue.append(message)
        self._queue_bytes += message.size
        self._resume()

    def _end(self, message: Outgoing, how: Published, refusal: str = "", *, said: bool = False) -> None:
        self.ended[how] += 1
        if how is not Published.CONFIRMED and not said:
            _log_end(message, how, refusal)
        if message.done is not None:
            self.refusal = refusal
            message.done(how)
            self.refusal = ""
        if not (backlog := self.backlog):
            self._empty.set()
        if self._room.shrunk(backlog, self._queue_bytes):
            self.on_relief()

    # -- life

    async def start(self) -> None:
        """Start connecting; returns at once. Messages may be published before."""
        if self._runner is None and not self._stopped:
            loop = asyncio.get_running_loop()
            self._coalescer = WriteCoalescer(self._flush, loop=loop)
            self._runner = loop.create_task(self._run(), name="publisher")

    async def drain(self, deadline: float) -> bool:
        """Wait for the end of all messages; False at ``deadline`` (monotonic)."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self, deadline: float) -> None:
        """Send until ``deadline``, close; the rest ends as FAILED. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            if not await self.drain(deadline):
                logger.error("%d messages were not confirmed by the broker in time", self.backlog)
            self._stopped = True
            if self._connection is not None:
                await self._connection.close_within(max(0.2, deadline - time.monotonic()))
            runner.cancel()
            await asyncio.wait([runner])
        self._stopped = True
        queue, self._queue = self._queue, deque()
        for message in (*queue, *self._nack_retry.give_up()):
            self._end(message, Published.FAILED)

    async def _run(self) -> None:
        while not self._stopped:
            try:
                await self._one_connection()
            except ChannelGone as gone:
                self._outages.lost("publishing", str(gone))
            except Exception:  # waiting messages must be sent after any unexpected error
                logger.exception("Unexpected error in the publisher; reconnecting")
                await asyncio.sleep(self._backoff.cap)

    async def _one_connection(self) -> None:
        endpoint, connection = await self.dialer.dial()
        logger.info("Publishing to %s", endpoint.label)
        self._connection = connection
        failures = 0
        try:
            while connection.is_open and not self._stopped:
                began = time.monotonic()
                gone = await self._one_channel(connection)
                if self._stopped:
                    return
                if not gone.blames_us:
                    # Otherwise a message caused it, and is logged when it ends.
                    self._outages.lost("publishing", str(gone))
                failures = 0 if time.monotonic() - began >= STABLE else failures + 1
                if connection.is_open:
                    await asyncio.sleep(reconnect_delay(failures - 1, random.random(), self._backoff))
        finally:
            self._connection = None
            await connection.close_within(0.2)

    async def _one_channel(self, connection: PublishConnection) -> ChannelGone:
        channel = await PublishChannel.open(connection, self._answered, self._resume, window=self._window)
        self._channel = channel
        self._outages.connected("publishing")
        connection.watch_blocking(self._on_blocked)
        self._resume()
        self.on_ready()
        try:
            return await channel.gone
        finally:
            self._channel = None
            self._take_back(channel)

    def _on_blocked(self, blocked: bool, reason: str) -> None:
        self._outages.set_blocked("publishing", blocked, reason)
        if self._channel is not None:
            self._channel.set_blocked(blocked)
            self.on_ready()

    def _resume(self) -> None:
        if self._queue and self._coalescer is not None:
            self._coalescer.mark()

    def _take_back(self, channel: PublishChannel) -> None:
        """Requeue the messages in flight; end one that closed the channel twice."""
        messages, culprit = channel.abandon()
        self.resent += len(messages)
        self._queue.extendleft(reversed(messages))
        self._queue_bytes += sum(message.size for message in messages)
        if culprit is not None:
            self._end(culprit, Published.REFUSED, str(channel.gone.result()))


def _log_end(message: Outgoing, how: Published, refusal: str) -> None:
    """Log a message that the broker refused, with the reason when known.

    A returned message is logged by its sender: there may be thousands of replies to a client that has left.
    """
    level = logging.ERROR
    if how is Published.RETURNED:
        level = logging.WARNING if message.done is None else logging.DEBUG
    logger.log(
        level,
        "Message to exchange %r with key %r: %s%s",
        message.exchange,
        message.routing_key,
        how.name.lower(),
        f": {refusal}" if refusal else "",
    )
