"""The worker's connection for remote control and events.

Owned by the master, for ``control.service``. Requests come from the worker's mailbox queue. It is separate from the
task connections so that neither delays the other: a full window of tasks, a publisher that waits for confirms, or a
queue that the broker refuses. Replies and the worker's own events are useful only now, so none is sent later or twice:
a message is dropped and counted when there is no connection or when too many wait. It must never carry a task.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from turbo.amqp.channel_calls import ChannelCalls, ChannelGone
from turbo.amqp.dialer import STABLE, Dialer, endpoints_for
from turbo.amqp.fast_connection import PublishConnection
from turbo.amqp.mailbox_claim import TAKEN, MailboxClaim
from turbo.amqp.mailbox_probe import MailboxProbe
from turbo.amqp.mailbox_unsent import Message, Unsent
from turbo.policy.restarts import BROKER_BACKOFF, Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from turbo.amqp.frame_splitter import RawDelivery
    from turbo.amqp.outages import Outages
    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Exchange, Queue
    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger("turbo.amqp.mailbox")

#: Bytes that may wait for the socket. More wait only if the broker reads slowly or not at all.
_LIMIT_BYTES: Final = 32 * 1024 * 1024
#: Most exchanges to remember as declared.
_LIMIT_DECLARED: Final = 200
_TAG: Final = "mailbox"
_PURPOSE: Final = "remote control"
_READING: Final = "remote control, requests"
_SENDING: Final = "remote control, replies"


class Mailbox:
    """The connection, its channels, and the messages that wait to be sent.

    One channel reads, the other sends. Create it before the loop is busy: the constructor reads TLS files. ``start``
    needs the loop.
    """

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        queue: Queue | None,
        on_message: Callable[[bytes, bytes], None],
        on_up: Callable[[], None],
        on_reading: Callable[[bool], None],
        *,
        heartbeat: float = 120.0,
        tls: TlsOptions | None = None,
        name: str = "turbo",
        connection_timeout: float = 5.0,
        backoff: Backoff = BROKER_BACKOFF,
        outages: Outages | None = None,
        probe: tuple[bytes, bytes] | None = None,
    ) -> None:
        """``queue`` is the queue to read; None to only send.

        ``on_message`` gets header and body. ``on_up`` is called whenever messages can be sent again; ``on_reading``
        whenever requests are read again, with whether there are other mailboxes (``probe``: see ``MailboxProbe``).
        """
        endpoints = endpoints_for(
            addresses, heartbeat=heartbeat, tls=tls, name=f"{name} control", timeout=connection_timeout
        )
        self._claim = MailboxClaim(name)
        self._dialer: Dialer[PublishConnection] = Dialer(
            endpoints, PublishConnection.open, purpose=_PURPOSE, outages=outages, backoff=backoff
        )
        self._outages = self._dialer.outages
        self._backoff = backoff
        self._queue = queue
        self._on_message = on_message
        self._on_up = on_up
        self._probe = MailboxProbe(probe, self._outages)
        self._on_reading = on_reading
        self._runner: asyncio.Task[None] | None = None
        self._connection: PublishConnection | None = None
        self._unsent = Unsent()
        self._sending = False
        self._ready = asyncio.Event()
        self._stopped = False

    # -- life

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._runner is None and not self._stopped:
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="mailbox")

    async def wait_ready(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds until it is consumed, or until it can send."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self, deadline: float) -> None:
        """Send what waits and close, by ``deadline`` (monotonic). Idempotent."""
        self._stopped = True
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if self._sending:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._unsent.wait_sent()
            except TimeoutError:
                logger.warning("Remote control stops with %d unsent replies and events", len(self._unsent))
        if self._connection is not None:
            await self._connection.close_within(max(0.2, deadline - time.monotonic()))
        runner.cancel()
        await asyncio.wait([runner])

    # -- sending

    @property
    def dropped(self) -> int:
        """Number of messages that were dropped instead of sent."""
        return self._unsent.dropped

    @property
    def can_send(self) -> bool:
        """Whether a message would be sent now."""
        connection = self._connection
        return (
            self._sending
            and connection is not None
            and connection.unsent_bytes <= _LIMIT_BYTES
            and not self._unsent.full
        )

    def send(self, exchange: Exchange, routing_key: str, header: bytes, body: bytes, *, keep: bool = False) -> bool:
        """Publish one message, declaring its exchange first.

        Return False if it is dropped instead. ``header`` is the payload of the content-header frame, its body size
        included. ``keep``: a message that waits when the connection is lost is sent over the next one. Never raises.
        """
        connection = self._connection
        if not self._sending or connection is None or connection.unsent_bytes > _LIMIT_BYTES:
            self._unsent.dropped += 1
            return False
        return self._unsent.add(Message(exchange, routing_key, header, body, keep))

    async def _send_all(self, connection: PublishConnection, calls: ChannelCalls) -> None:
        """Send the waiting messages until cancelled; the channel is open."""
        declared: set[str] = set()
        while True:
            message = await self._unsent.next()
            try:
                name = message.exchange.name
                if name not in declared and message.exchange.declarable:
                    await calls.declare_exchange(message.exchange)
                    if len(declared) >= _LIMIT_DECLARED:
                        declared.clear()
                    declared.add(name)
                message.send(connection, calls.number)
            except ValueError as error:
                logger.warning("Dropping a reply or event that cannot be sent: %s", error)
            finally:
                self._unsent.sent()

    # -- connection and channels

    async def _run(self) -> None:
        while not self._stopped:
            try:
                await self._one_connection()
            except ChannelGone as gone:
                self._outages.lost(_PURPOSE, str(gone))
            except Exception:  # the worker must stay reachable, so connect again after any error
                logger.exception("Unexpected error in the remote-control connection; reconnecting")
                await asyncio.sleep(self._backoff.cap)

    async def _one_connection(self) -> None:
        _endpoint, connection = await self._dialer.dial()
        self._connection = connection
        self._outages.connected(_PURPOSE)
        connection.watch_blocking(partial(self._outages.set_blocked, _PURPOSE))
        uses = [(_SENDING, self._send_over_channel)]
        if self._queue is not None:
            uses.append((_READING, self._read_over_channel))
        keep, loop = self._keep_channel_open, asyncio.get_running_loop()
        halves = [loop.create_task(keep(connection, half, use), name=half) for half, use in uses]
        try:
            await _first_of(*halves, connection.lost)
            if not self._stopped:
                reason = connection.lost.result() if connection.lost.done() else "its channels are gone"
                self._outages.lost(_PURPOSE, reason)
        finally:
            self._connection = None
            for half in halves:
                half.cancel()
            outcomes = await asyncio.gather(*halves, return_exceptions=True)
            await connection.close_within(0.2)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _keep_channel_open(
        self, connection: PublishConnection, half: str, use: Callable[[PublishConnection], Awaitable[ChannelGone]]
    ) -> None:
        """Keep a channel open for reading or sending, while the connection lives.

        Each half has its own channel, so that a refusal of one does not end the other.
        """
        failures = 0
        while connection.is_open:
            began = time.monotonic()
            try:
                gone = await use(connection)
            except ChannelGone as error:
                gone = error
            if self._stopped or not connection.is_open:
                return
            if gone.code not in TAKEN:  # MailboxClaim has logged those
                self._outages.lost(half, str(gone))
            failures = 0 if time.monotonic() - began >= STABLE else failures + 1
            await asyncio.sleep(reconnect_delay(failures - 1, random.random(), self._backoff))

    async def _send_over_channel(self, connection: PublishConnection) -> ChannelGone:
        calls = await ChannelCalls.open(connection)
        sender = asyncio.get_running_loop().create_task(self._send_all(connection, calls), name="mailbox-sender")
        self._sending = True
        self._outages.connected(_SENDING)
        if self._queue is None:
            self._ready.set()
        self._on_up()
        try:
            await _first_of(sender, calls.closed)
        finally:
            self._sending = False
            sender.cancel()
            await asyncio.wait([sender])
            self._unsent.lose_connection()
        if calls.closed.done():
            return calls.closed.result()
        error = None if sender.cancelled() else sender.exception()
        raise error or ChannelGone(0, "sending has ended")

    async def _read_over_channel(self, connection: PublishConnection) -> ChannelGone:
        assert self._queue is not None
        calls = await ChannelCalls.open(connection)
        cancelled = asyncio.get_running_loop().create_future()
        calls.channel.add_on_cancel_callback(lambda _frame: None if cancelled.done() else cancelled.set_result(None))
        try:
            for binding in self._queue.all_bindings():
                await calls.declare_exchange(binding.exchange)
            try:
                consumers = await calls.declare_queue(self._queue)
            except ChannelGone as gone:
                self._claim.refused(gone)
                raise
            self._claim.declared(consumers)
            others = await self._probe.others_read(connection, calls, self._queue.exchange)
            for binding in self._queue.all_bindings():
                await calls.bind_queue(self._queue.name, binding)
            connection.watch_channel(calls.number, self._take)
            await calls.consume(self._queue.name, _TAG, {}, exclusive=False, no_ack=True)
            self._claim.was_read = True
            self._outages.connected(_READING)
            self._on_reading(others)
            self._ready.set()
            await _first_of(calls.closed, cancelled)
        finally:
            self._ready.clear()
            if connection.watched_channel == calls.number:
                connection.watch_channel(0)
        if calls.closed.done():
            return calls.closed.result()
        await calls.close()
        return ChannelGone(0, "the broker cancelled the consumer (queue deleted or moved)")

    def _take(self, _tag: bytes, batch: list[RawDelivery]) -> None:
        for _number, _deliver, header, body in batch:
            try:
                self._on_message(header, body)
            except Exception:  # anybody may send anything
                # One bad message must not end the connection and lose all other requests and replies.
                logger.exception("Dropping a remote-control message that raised an error")


async def _first_of(*ends: asyncio.Future[Any]) -> None:
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
