"""The worker's consuming side: connects, consumes, settles, recovers.

It recovers from any lost connection.

Owned by the master. It dials (``amqp.dialer``) and runs one session after another (``amqp.consume.session``). Epochs
tell the sessions apart: a settlement for an old epoch is counted, logged and dropped, because the broker has already
requeued that message. It must never publish.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from turbo.amqp.channel_calls import ChannelGone
from turbo.amqp.consume.consumer import ConsumerTable, Pause
from turbo.amqp.consume.session import DeliverySink, Session
from turbo.amqp.consume.settler import Settler
from turbo.amqp.consume.wanted_queues import WantedQueues
from turbo.amqp.declarer import Declarer
from turbo.amqp.dialer import STABLE, Dialer, endpoints_for
from turbo.amqp.fast_connection import FastConnection
from turbo.amqp.refusals import Refusals
from turbo.policy.restarts import BROKER_BACKOFF, Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
    from turbo.amqp.dialer import FailureObserver
    from turbo.amqp.outages import Outages
    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger("turbo.amqp.consume.link")

#: Seconds for the closing handshake of a connection that is being replaced.
GOODBYE = 2.0


class BrokerLink(Settler):
    """The consuming side of one worker. The constructor reads TLS files."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        queues: Sequence[Queue],
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
        on_failure: FailureObserver | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """``prefetch_count``: messages per queue, 0 for no limit.

        ``delay_queue_type``: see ``Declarer``. ``timeouts``: the consumer timeouts to ask the broker for; None asks for
        none. Times are in seconds. ``on_failure`` and ``on_lost``: see ``Dialer``.
        """
        super().__init__()
        self._timeouts = timeouts
        where = f"{name} consumer"
        endpoints = endpoints_for(addresses, heartbeat=heartbeat, tls=tls, name=where, timeout=connection_timeout)
        #: Opens the connections.
        self.dialer: Dialer[FastConnection] = Dialer(
            endpoints, FastConnection.open, purpose="consuming", outages=outages, backoff=backoff,
            on_failure=on_failure, on_lost=on_lost,
        )  # fmt: skip
        self._outages = self.dialer.outages
        self._backoff = backoff
        self._delay_queue_type = delay_queue_type
        #: The queues to consume, paused and refused ones included; call :meth:`apply` after a change.
        self.wanted = WantedQueues(queues)
        self._window = prefetch_count
        self._fixed_window = prefetch_count
        self._paused = Pause.NONE
        self._stopping = False
        self._runner: asyncio.Task[None] | None = None
        self._connection: FastConnection | None = None
        #: The queues that the broker refuses, and the types of the others.
        self.refusals = Refusals()
        self._channel_failures = 0
        self._ready, self._changing = asyncio.Event(), asyncio.Lock()
        #: The session has tried every queue.
        self._opened = False
        #: Number of the current or newest session; 0 before the first.
        self.epoch = 0

    # -- life

    async def start(self, sink: DeliverySink) -> None:
        """Start connecting; returns at once. ``sink`` receives the deliveries."""
        if self._runner is None and not self._stopping:
            self._runner = asyncio.get_running_loop().create_task(self._run(sink), name="broker-link")

    async def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until each usable queue is consumed; False after ``timeout`` seconds."""
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
        """The consumed queues, paused ones included, in the order of configuration."""
        names = self._session.consumed if self._session is not None else ()
        return [name for name in self.wanted if name in names]

    @property
    def last_error(self) -> str | None:
        """Why the newest attempt to connect failed; None when it succeeded."""
        return self.dialer.last_error

    @property
    def outstanding(self) -> int:
        """Number of unsettled deliveries of the current session."""
        return 0 if self._session is None else self._session.outstanding

    @property
    def window(self) -> int:
        """The prefetch count of queues whose window may change."""
        return self._window

    async def stop(self, deadline: float) -> None:
        """Cancel the consumers, send the settlements and close the connection.

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
                logger.warning("Consumers could not be cancelled; closing the connection: %r", error)
            session.flush()
        if connection is not None:
            await connection.close_within(deadline - time.monotonic())
        runner.cancel()
        await asyncio.wait([runner])

    async def _run(self, sink: DeliverySink) -> None:
        while not self._stopping:
            try:
                await self._one_connection(sink)
            except ChannelGone as gone:
                self._outages.lost("consuming", str(gone))
            except Exception:  # the worker must keep consuming after any unexpected error
                logger.exception("Unexpected error in the broker link; reconnecting")
                await asyncio.sleep(self._backoff.cap)

    async def _one_connection(self, sink: DeliverySink) -> None:
        endpoint, connection = await self.dialer.dial()
        logger.info("Connected to %s", endpoint.label)
        self._connection = connection
        self._channel_failures = 0
        declarer = Declarer(connection, self._delay_queue_type, self.refusals)
        try:
            while connection.is_open and not self._stopping:
                await self._one_session(connection, declarer, sink)
        finally:
            self._connection = None
            await connection.close_within(0.0 if self._stopping else GOODBYE)

    async def _one_session(self, connection: FastConnection, declarer: Declarer, sink: DeliverySink) -> None:
        """Consume until the session is lost. The connection is reused if it is open."""
        began = time.monotonic()
        self.epoch += 1
        consumers = ConsumerTable(self._window, self._fixed_window, self._timeouts, connection.server_version)
        session = Session(
            self.epoch, connection, declarer, sink, self.refusals, consumers, self._look_at_queues
        )  # fmt: skip
        self._session = session
        reason = "the worker is stopping"
        try:
            opened = self.wanted.to_consume()
            await session.open(opened.values(), paused=lambda: self._paused)
            await self._catch_up(session, opened)
            self._outages.connected("consuming")
            self._opened = True
            self._look_at_queues()
            logger.info("Consuming from %s (session %d)", ", ".join(self.consumed) or "no queue", self.epoch)
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
        """Update readiness after the set of consumed queues has changed."""
        if self._opened and (self.consumed or not self.wanted.to_consume()):
            self._ready.set()
        else:
            self._ready.clear()

    # -- what to consume

    async def cancel_consumers(self, which: Pause = Pause.ALL) -> None:
        """Stop consuming, also after a reconnect. Deliveries here can be settled."""
        self._paused = which
        if self._session is not None and self._session.alive:
            await self._change_session(self._session.pause(which))

    async def resume_consumers(self) -> None:
        """Consume again after :meth:`cancel_consumers`."""
        self._paused = Pause.NONE
        if self._session is not None and self._session.alive:
            await self._change_session(self._session.resume())

    async def set_prefetch(self, count: int, *, add: bool = False) -> bool:
        """Change the window of every queue that allows it, also for later sessions.

        False when a queue keeps its window: single active consumer, exclusive, or not known to be as declared. The old
        and the new window add up until the old deliveries are settled. ``add``: see ``ConsumerTable.swap``.
        """
        changed, self._window = count != self._window, count
        if changed and self._session is not None and self._session.alive:
            try:
                return await self._session.swap_window(count, add=add)
            except ChannelGone as gone:
                logger.warning("The session was lost while its window was changed: %s", gone)
        return not any(queue.window_is_fixed for queue in self.wanted.values())

    async def apply(self, name: str) -> None:
        """Start or stop a queue's consumer as :attr:`wanted` says; settling goes on."""
        async with self._changing:  # A start declares first: a stop in the meantime would find no consumer.
            if self._session is not None and self._session.alive:
                queue = self.wanted.to_consume().get(name)
                await self._change_session(self._session.remove(name) if queue is None else self._session.add(queue))
                self._look_at_queues()

    async def _catch_up(self, session: Session, opened: Mapping[str, Queue]) -> None:
        """Make the changes asked for while opening queues. Raises ``ChannelGone``."""
        async with self._changing:
            for name in opened.keys() - self.wanted.to_consume().keys():
                await session.remove(name)
            for name, queue in self.wanted.to_consume().items():
                if name not in opened:
                    await session.add(queue)

    @property
    def session(self) -> Session | None:
        """The session whose tags can be settled now; None when there is none."""
        return self._session if self._session is not None and self._session.alive else None

    @property
    def server_version(self) -> tuple[int, ...]:
        """The broker's version as numbers; empty while it is unknown."""
        return () if self._connection is None else self._connection.server_version

    async def purge(self) -> int:
        """Delete every queue's ready messages; return their number (0: no session)."""
        if self._session is None or not self._session.alive:
            return 0
        return await self._session.purge([queue.name for queue in self.wanted.values() if not queue.no_ack])

    async def _change_session(self, change: Awaitable[None]) -> None:
        """Make a change to the session. The next one includes it if this one is lost."""
        try:
            await change
        except ChannelGone as gone:
            logger.warning("The session was lost while its consumers were changed: %s", gone)
