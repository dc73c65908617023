"""The worker's hold on its queues: connect, consume, settle, and come back from any loss.

Owned by the master. It dials (``amqp.dialer``), runs one session after another on the connection it has
(``amqp.consume.session``), and hides which of them is current behind epochs: a settlement for an old one is counted,
logged and dropped, because the broker has already put that message back. It must never publish.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from turbo.amqp.channel_calls import ChannelGone
from turbo.amqp.consume.consumer import ConsumerTable
from turbo.amqp.consume.session import DeliverySink, Session
from turbo.amqp.consume.settler import Settler
from turbo.amqp.declarer import Declarer
from turbo.amqp.dialer import STABLE, Dialer, endpoints_for
from turbo.amqp.fast_connection import FastConnection
from turbo.amqp.refusals import Refusals
from turbo.policy.restarts import BROKER_BACKOFF, Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
    from turbo.amqp.outages import Outages
    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger("turbo.amqp.consume.link")

#: Seconds for a polite goodbye to a connection that is being replaced.
GOODBYE = 2.0


class BrokerLink(Settler):
    """The one consuming side of a worker. Making it reads TLS files; ``start`` needs the loop."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        queues: Sequence[Queue],
        sink: DeliverySink,
        *,
        prefetch_count: int,
        heartbeat: float = 120.0,
        tls: TlsOptions | None = None,
        name: str = "turbo",
        connection_timeout: float = 5.0,
        backoff: Backoff = BROKER_BACKOFF,
        delay_queue_type: str = "quorum",
        outages: Outages | None = None,
        timeouts: ConsumerTimeouts | None = None,
    ) -> None:
        """``prefetch_count``: messages per queue, 0 for no limit. ``delay_queue_type``: see ``Declarer``. Seconds.

        ``timeouts``: what is asked for of the broker where it has a timeout for each consumer; None: nothing.
        """
        super().__init__()
        self._timeouts = timeouts
        endpoints = endpoints_for(
            addresses, heartbeat=heartbeat, tls=tls, name=f"{name} consumer", timeout=connection_timeout
        )
        #: Gets the connections; its hooks hear of those that are lost, and of those that could not be had.
        self.dialer: Dialer[FastConnection] = Dialer(
            endpoints, FastConnection.open, purpose="consuming", outages=outages, backoff=backoff
        )
        self._outages = self.dialer.outages
        self._backoff = backoff
        self._delay_queue_type = delay_queue_type
        self._queues = {queue.name: queue for queue in queues}
        self._sink = sink
        self._window = prefetch_count
        self._fixed_window = prefetch_count
        self._paused = False
        self._stopping = False
        self._runner: asyncio.Task[None] | None = None
        self._connection: FastConnection | None = None
        #: The queues that the broker refuses, and of which kind the others are.
        self.refusals = Refusals()
        self._channel_failures = 0
        self._ready = asyncio.Event()
        #: The session has tried every queue.
        self._opened = False
        #: Number of the current or newest session; 0: none yet.
        self.epoch = 0

    # -- life

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._runner is None and not self._stopping:
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="broker-link")

    async def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until queues are consumed, each that can be; False when ``timeout`` seconds pass first."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    @property
    def ready(self) -> bool:
        """Whether a session is up and consumes at least one of its queues."""
        return self._ready.is_set()

    @property
    def consumed(self) -> list[str]:
        """The queues that are consumed now, in the order of configuration; those that are paused among them."""
        names = self._session.consumed if self._session is not None else ()
        return [name for name in self._queues if name in names]

    @property
    def last_error(self) -> str | None:
        """Why the newest attempt to connect failed; None when it did not."""
        return self.dialer.last_error

    @property
    def outstanding(self) -> int:
        """Deliveries of the current session that are not settled."""
        return 0 if self._session is None else self._session.outstanding

    @property
    def window(self) -> int:
        """The prefetch count of queues whose window may change."""
        return self._window

    async def stop(self, deadline: float) -> None:
        """Cancel the consumers, send the settlements, say goodbye.

        By ``deadline`` (``time.monotonic``). Idempotent.
        """
        self._stopping = True
        runner, self._runner = self._runner, None
        if runner is None:
            return
        session, connection = self._session, self._connection
        if session is not None and session.alive:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await session.pause()
            except (TimeoutError, ChannelGone) as error:
                logger.warning("consumers could not be cancelled before closing: %r", error)
            session.flush()
        if connection is not None:
            await connection.close_within(deadline - time.monotonic())
        runner.cancel()
        await asyncio.wait([runner])

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._one_connection()
            except ChannelGone as gone:
                self._outages.lost("consuming", str(gone))
            except Exception:  # the worker must go on consuming whatever surprised us here
                logger.exception("the link to the broker stumbled and starts over")
                await asyncio.sleep(self._backoff.cap)

    async def _one_connection(self) -> None:
        endpoint, connection = await self.dialer.dial()
        logger.info("Connected to %s", endpoint.label)
        self._connection = connection
        self._channel_failures = 0
        declarer = Declarer(connection, self._delay_queue_type, self.refusals)
        try:
            while connection.is_open and not self._stopping:
                await self._one_session(connection, declarer)
        finally:
            self._connection = None
            await connection.close_within(0.0 if self._stopping else GOODBYE)

    async def _one_session(self, connection: FastConnection, declarer: Declarer) -> None:
        """Consume until the session is lost. When only its channel went, the next opens on the same connection."""
        began = time.monotonic()
        self.epoch += 1
        consumers = ConsumerTable(self._window, self._fixed_window, self._timeouts, connection.server_version)
        session = Session(
            self.epoch, connection, declarer, self._sink, self.refusals, consumers, self._look_at_queues
        )  # fmt: skip
        self._session = session
        reason = "the worker is stopping"
        try:
            await session.open(list(self._queues.values()), paused=lambda: self._paused)
            self._outages.connected("consuming")
            self._opened = True
            self._look_at_queues()
            logger.info("consuming from %s (session %d)", ", ".join(self.consumed) or "no queue", self.epoch)
            reason = await session.lost
        except ChannelGone as gone:
            reason = str(gone)
        finally:
            self._opened = False
            self._ready.clear()
            session.lose(reason)
            self._session = None
        if self._stopping:
            return
        if session.refused is None:
            self._outages.lost("consuming", reason)
        if connection.is_open:
            lived = time.monotonic() - began
            self._channel_failures = 0 if lived >= STABLE else self._channel_failures + 1
            await asyncio.sleep(reconnect_delay(self._channel_failures, random.random(), self._backoff))

    def _look_at_queues(self) -> None:
        """The consumed queues have changed, and with them perhaps whether the worker is ready."""
        if self._opened and (self.consumed or not self._queues):
            self._ready.set()
        else:
            self._ready.clear()

    # -- what to consume

    async def cancel_consumers(self) -> None:
        """Stop consuming, also after a reconnect; deliveries that are here can still be settled."""
        self._paused = True
        if self._session is not None and self._session.alive:
            await self._calmly(self._session.pause())

    async def resume_consumers(self) -> None:
        """Consume again after :meth:`cancel_consumers`."""
        self._paused = False
        if self._session is not None and self._session.alive:
            await self._calmly(self._session.resume())

    async def set_prefetch(self, count: int) -> bool:
        """Change the window of every queue that allows it, now and for later sessions.

        False when a queue keeps the window it started with: single active consumer, exclusive, or not known to
        be what was declared. Old and new window add up until the old deliveries are settled.
        """
        changed, self._window = count != self._window, count
        if changed and self._session is not None and self._session.alive:
            try:
                return await self._session.swap_window(count)
            except ChannelGone as gone:
                logger.warning("the session was lost while its window was changed: %s", gone)
        return not any(queue.window_is_fixed for queue in self._queues.values())

    async def add_queue(self, queue: Queue) -> None:
        """Consume one queue more, now and in later sessions."""
        self._queues[queue.name] = queue
        if self._session is not None and self._session.alive:
            await self._calmly(self._session.add(queue))

    async def remove_queue(self, name: str) -> None:
        """Stop consuming a queue; its deliveries can still be settled."""
        self._queues.pop(name, None)
        if self._session is not None and self._session.alive:
            await self._calmly(self._session.remove(name))

    @property
    def session(self) -> Session | None:
        """The session whose tags can be settled now; None while there is none."""
        return self._session if self._session is not None and self._session.alive else None

    @property
    def server_version(self) -> tuple[int, ...]:
        """The broker's version, as numbers; empty while there is no connection, or when it does not say."""
        return () if self._connection is None else self._connection.server_version

    async def purge(self) -> int:
        """Delete the ready messages of every queue; how many. 0 without a session."""
        if self._session is None or not self._session.alive:
            return 0
        return await self._session.purge([queue.name for queue in self._queues.values() if not queue.no_ack])

    async def _calmly(self, change: Awaitable[None]) -> None:
        """Make a change to the session. When that is lost on the way, the next one has the change anyway."""
        try:
            await change
        except ChannelGone as gone:
            logger.warning("the session was lost while its consumers were changed: %s", gone)
