"""The Redis store: sends documents in batches until Redis has replied to each.

Before it: the master passes a document that a child has encoded. After it: ``redis.connection``. Runs in the master, on
its loop. ``redis.writes`` decides what is sent, repeated and given up; this module has the connection, reconnecting,
timers and the log. All writes of one loop iteration are sent together. After a lost connection all unanswered writes
are repeated, in order and without limit; this is safe, because the script stores the same document again. It never
drops a write without a log message and never logs a password.
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

#: Interval in seconds at which an open connection is checked for missing replies.
_WATCH = 1.0
#: Pauses between attempts to connect, and between attempts to write to a server that refuses writes for now.
_CONNECT_BACKOFF = Backoff(first=0.05, cap=3.0)
_REFUSED_BACKOFF = Backoff(first=0.05, cap=2.0)
#: Maximum number of task ids in one log line.
_NAMED = 20


class RedisStore:
    """Stores documents under ``celery-task-meta-<id>`` and publishes them.

    The channel has the name of the key.
    """

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
        #: Number of successive refused batches.
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
        """The backlog at which the master stops dispatching tasks."""
        return self._settings.high_water

    @property
    def congested(self) -> bool:
        """True from the high water mark until the backlog is down to half of it.

        Writes and bytes have one each.
        """
        return self._congested

    @property
    def connected(self) -> bool:
        """Whether a connection is open and logged in."""
        return self._connection is not None

    def store(self, write: ResultWrite, done: Done) -> None:
        """Accept a write; it is sent with the others of this loop iteration."""
        if self._stopped or len(write.payload) > LARGEST_VALUE:
            why = "the result store is closed" if self._stopped else "it is larger than 512 MiB, Redis's limit"
            logger.error("Result of task %s not stored: %s", printable(write.task_id), why)
            asyncio.get_running_loop().call_soon(report, ((done, StoreOutcome.FAILED),))
            return
        writes, limits = self._writes, self._settings
        writes.add(write, done)
        if not self._flush_due:
            self._schedule_flush()
        if writes.bytes >= limits.high_water_bytes or len(writes) >= limits.high_water:
            self._congested = True

    async def start(self) -> None:
        """Start to connect; return at once, whether or not Redis is up.

        Raises only for a bad certificate file.
        """
        if self._runner is None and not self._stopped:
            if self._address.tls is not None:
                self._tls = self._address.tls.context()
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="turbo-redis-results")

    async def drain(self, deadline: float) -> bool:
        """Wait until the backlog is empty or until ``deadline`` (``time.monotonic``).

        Returns whether it is empty.
        """
        while self._writes and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), left)
            except TimeoutError:
                break
        return not self._writes

    async def stop(self, deadline: float) -> None:
        """Drain, then close.

        Writes that are left at the deadline end as FAILED, and their tasks are logged.
        """
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
            logger.error("%d results not stored before the worker stopped: tasks %s%s", len(left), names, dots)
            report([(pending.done, StoreOutcome.FAILED) for pending in left])
        self._idle.set()

    # -- writes and replies ----------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        self._flush_due = True
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send unsent writes, unless a pause after a refusal is running."""
        self._flush_due = False
        connection, writes = self._connection, self._writes
        if connection is None or self._retry_timer is not None:
            return
        if not writes.unanswered:
            self._last_heard = time.monotonic()
        while connection.writable and writes.sendable:
            connection.write(writes.take())

    def _on_replies(self, replies: list[object]) -> None:
        """Process a batch of replies, then report the finished writes.

        Their ``done`` may call ``store`` again.
        """
        self._last_heard = time.monotonic()
        answers = self._writes.answer(replies, self._last_heard)
        for task_id, message in answers.given_up:
            logger.error("Result of task %s not stored: Redis replied %s", printable(task_id), message)
        if answers.refusal is not None and not self._refusals:
            logger.warning("Redis refuses results; repeating them until it accepts one: %s", answers.refusal)
        if not self._writes.probing:
            self._refusals = 0
        if answers.reconnect is not None and self._connection is not None:
            self._connection.abort(answers.reconnect)
        if self._writes.can_repeat_refused:
            self._repeat_later()
        elif self._writes.sendable and not self._flush_due:
            self._schedule_flush()
        report(answers.settled)
        self._relieve()

    def _repeat_later(self) -> None:
        """Move refused writes to the front of the queue.

        After a pause, one of them is sent as a probe.
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
        """Keep one connection open, reconnecting until cancelled."""
        failures = 0
        while True:
            try:
                timeout = self._address.socket_connect_timeout or self._settings.connect_timeout
                connection = await connect(self._address, self._tls, self._on_replies, self._flush, timeout)
            except (OSError, OperationalError) as error:
                failures += 1
                if failures in (1, 5) or failures % 30 == 0:
                    why = str(error) or type(error).__name__
                    logger.warning("Cannot connect to Redis at %s; results wait, retrying: %s", self._address, why)
            except Exception:
                # An unexpected error must not lose the waiting results.
                failures += 1
                logger.exception("Cannot connect to Redis at %s; results wait, retrying", self._address)
            else:
                failures = await self._attend(connection, failures)
            await asyncio.sleep(reconnect_delay(failures, random.random(), _CONNECT_BACKOFF))

    async def _attend(self, connection: RedisConnection, failures: int) -> int:
        """Use a connection until it ends or replies are late.

        Return the failure count for the next pause: 0, or one more if the connection ended at once, so that the store
        does not reconnect in a tight loop to a server that accepts and closes.
        """
        if failures:
            logger.info("Connected to Redis at %s again, %d results waiting", self._address, self.backlog)
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
                logger.warning("Connection to Redis at %s lost (%s); reconnecting, %d results waiting",
                               self._address, connection.lost, self.backlog)  # fmt: skip
        return 0 if time.monotonic() - began > _WATCH else failures + 1
