"""The Redis store: documents leave in one write a loop turn, and stay ours until Redis has answered for each.

Before it: ``master`` hands over a document that a child has encoded. After it: ``redis_connection``. Runs in
the master, on its loop. The rules of what is sent, repeated and given up are in ``redis_writes``; here are
the connection and its repair, the timers and the log. A lost connection repeats all that was unanswered, in
order and without bound; a repetition does no harm, since the script stores the same document again. It never
drops a write in silence and never logs a password.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from turbo.backends.redis.connection import RedisConnection, connect
from turbo.backends.redis.wire import LARGEST_VALUE
from turbo.backends.redis.writes import WriteQueue
from turbo.backends.store import Done, ResultWrite, StoreOutcome, StoreSettings, report
from turbo.exceptions import OperationalError
from turbo.log_format import printable
from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from turbo.backends.url import RedisAddress

logger = logging.getLogger(__name__)

#: How often a silent connection is looked at, in seconds.
_WATCH = 1.0
#: Between attempts to connect, and between attempts to write to a server that refuses for now.
_CONNECT_BACKOFF = Backoff(first=0.05, cap=3.0)
_REFUSED_BACKOFF = Backoff(first=0.05, cap=2.0)
#: Ids named in one log line.
_NAMED = 20


class RedisStore:
    """Stores documents under ``celery-task-meta-<id>`` and publishes them on the channel of the same name."""

    def __init__(
        self,
        address: RedisAddress,
        settings: StoreSettings,
        *,
        on_relief: Callable[[], None] | None = None,
    ) -> None:
        self._address = address
        self._settings = settings
        self._on_relief = on_relief
        self._writes = WriteQueue(settings)
        self._congested = False
        self._connection: RedisConnection | None = None
        self._tls: ssl.SSLContext | None = None
        self._flush_due = False
        self._retry_timer: asyncio.TimerHandle | None = None
        #: Batches refused in a row.
        self._refusals = 0
        self._last_heard = 0.0
        self._runner: asyncio.Task[None] | None = None
        self._stopped = False
        self._idle = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Number of writes whose ``done`` has not been called."""
        return len(self._writes)

    @property
    def high_water(self) -> int:
        """The backlog from which on the master shall dispatch nothing more."""
        return self._settings.high_water

    @property
    def congested(self) -> bool:
        """True from the high water mark (writes or bytes) until the backlog is down to half of it."""
        return self._congested

    @property
    def connected(self) -> bool:
        """Whether a connection is up and logged in."""
        return self._connection is not None

    def store(self, write: ResultWrite, done: Done) -> None:
        """Accept a write; it leaves with the others of this loop turn."""
        if self._stopped or len(write.payload) > LARGEST_VALUE:
            why = "the result store is closed" if self._stopped else "Redis takes no value over 512 MiB"
            logger.error("result of task %s not stored: %s", printable(write.task_id), why)
            asyncio.get_running_loop().call_soon(report, ((done, StoreOutcome.FAILED),))
            return
        writes, limits = self._writes, self._settings
        writes.add(write, done)
        if not self._flush_due:
            self._schedule_flush()
        if writes.bytes >= limits.high_water_bytes or len(writes) >= limits.high_water:
            self._congested = True

    async def start(self) -> None:
        """Begin to connect;

        return at once, whether Redis is up or not. Raises only for a bad certificate file.
        """
        if self._runner is None and not self._stopped:
            if self._address.tls is not None:
                self._tls = self._address.tls.context()
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="turbo-redis-results")

    async def drain(self, deadline: float) -> bool:
        """Wait until the backlog is empty, or until ``deadline`` (``time.monotonic``).

        Return whether it is.
        """
        while self._writes and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), left)
            except TimeoutError:
                break
        return not self._writes

    async def stop(self, deadline: float) -> None:
        """Drain, then close. What is left at the deadline ends as FAILED and is named in the log."""
        if not self._stopped and self._runner is not None:
            await self.drain(deadline)
        self._stopped = True
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None
        left = self._writes.clear()
        if left:
            names = ", ".join(pending.write.task_id for pending in left[:_NAMED])
            dots = "" if len(left) <= _NAMED else ", …"
            logger.error("%d results not stored before the stop; tasks %s%s", len(left), names, dots)
            report([(pending.done, StoreOutcome.FAILED) for pending in left])
        self._idle.set()

    # -- sending and hearing ---------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        self._flush_due = True
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send what is waiting, unless the server has asked for patience."""
        self._flush_due = False
        connection, writes = self._connection, self._writes
        if connection is None or self._retry_timer is not None:
            return
        if not writes.unanswered:
            self._last_heard = time.monotonic()
        while connection.writable and writes.sendable:
            connection.write(writes.take())

    def _on_replies(self, replies: list[object]) -> None:
        """Do what a batch of replies asks for, then tell everyone; callers may store again from inside."""
        self._last_heard = time.monotonic()
        answers = self._writes.answer(replies, self._last_heard)
        for task_id, message in answers.given_up:
            logger.error("result of task %s not stored: Redis says %s", printable(task_id), message)
        if answers.refusal is not None and not self._refusals:
            logger.warning("Redis refuses results for now, they will be repeated: %s", answers.refusal)
        if not self._writes.probing:
            self._refusals = 0
        if answers.reconnect is not None and self._connection is not None:
            self._connection.abort(answers.reconnect)
        if self._writes.refused_and_quiet:
            self._repeat_later()
        elif self._writes.sendable and not self._flush_due:
            self._schedule_flush()
        report(answers.settled)
        self._relieve()

    def _repeat_later(self) -> None:
        """Put refused writes back in front;

        after a while, one of them asks whether the server has recovered.
        """
        self._writes.recover()
        self._refusals += 1
        if self._retry_timer is None:
            delay = reconnect_delay(self._refusals, random.random(), _REFUSED_BACKOFF)
            self._retry_timer = asyncio.get_running_loop().call_later(delay, self._repeat)

    def _repeat(self) -> None:
        self._retry_timer = None
        self._flush()

    def _relieve(self) -> None:
        writes, limits = self._writes, self._settings
        if not writes:
            self._idle.set()
        if not self._congested or len(writes) > limits.high_water // 2:
            return
        if writes.bytes <= limits.high_water_bytes // 2:
            self._congested = False
            if self._on_relief is not None:
                self._on_relief()

    # -- the connection --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep one connection alive until cancelled."""
        failures = 0
        while True:
            try:
                timeout = self._address.socket_connect_timeout or self._settings.connect_timeout
                connection = await connect(self._address, self._tls, self._on_replies, self._flush, timeout)
            except (OSError, OperationalError) as error:
                failures += 1
                if failures in (1, 5) or failures % 30 == 0:
                    why = str(error) or type(error).__name__
                    logger.warning("results wait for Redis at %s: %s", self._address, why)
            except Exception:
                # whatever it is, the results that wait must not be lost to it
                failures += 1
                logger.exception("results wait for Redis at %s", self._address)
            else:
                failures = await self._attend(connection, failures)
            await asyncio.sleep(reconnect_delay(failures, random.random(), _CONNECT_BACKOFF))

    async def _attend(self, connection: RedisConnection, failures: int) -> int:
        """Use a connection until it ends or falls silent while writes are unanswered.

        Return the number of failures to go on from: 0 unless it ended at once, so that a server that accepts
        and drops is not hammered.
        """
        if failures:
            logger.info("Redis at %s is back, %d results waiting", self._address, self.backlog)
        limit = self._address.socket_timeout or self._settings.reply_timeout
        began = time.monotonic()
        self._connection = connection
        try:
            self._flush()
            while not connection.closed.done():
                await asyncio.wait((connection.closed,), timeout=_WATCH)
                if self._writes.unanswered and time.monotonic() - self._last_heard > limit:
                    connection.abort(f"no reply for {limit:g} s")
        finally:
            self._connection = None
            connection.abort("the store is closing")
            self._writes.recover()
            if not self._stopped:
                logger.warning("connection to Redis at %s lost (%s), %d results waiting",
                               self._address, connection.lost, self.backlog)  # fmt: skip
        return 0 if time.monotonic() - began > _WATCH else failures + 1
