"""The Redis store: documents leave in one write a loop turn, and stay ours until Redis has answered for each.

Before it: ``master`` hands over a document that a child has encoded. After it: ``redis_connection``. Runs in
the master, on its loop. A write lives in exactly one of three places, oldest first: ``_failed`` (refused for
now, to be repeated), ``_sent`` (unanswered, in the order of the wire, which is how replies find their write)
and ``_unsent``. A lost connection puts all three back in order, so nothing is lost, and a repetition does no
harm: the script stores the same document again. It never drops a write in silence, never reorders the writes
of one task, and never logs a password.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from turbo.backends.compressed import says_success
from turbo.backends.redis_connection import RedisConnection, connect
from turbo.backends.redis_wire import (
    LARGEST_VALUE,
    Fault,
    classify,
    lifetime,
    store_frame,
    task_key_prefix,
)
from turbo.backends.store import Done, ResultWrite, StoreOutcome, StoreSettings, report
from turbo.exceptions import OperationalError
from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from turbo.backends.url import RedisAddress

logger = logging.getLogger(__name__)

#: One write to the transport carries at most this much, so that joining stays cheap.
_CHUNK = 256 * 1024
#: How often a silent connection is looked at, in seconds.
_WATCH = 1.0
#: Between attempts to connect, and between attempts to write to a server that refuses for now.
_CONNECT_BACKOFF = Backoff(first=0.05, cap=3.0)
_REFUSED_BACKOFF = Backoff(first=0.05, cap=2.0)
#: Ids named in one log line.
_NAMED = 20


class _Pending:
    """One write until its answer."""

    __slots__ = ("done", "frame", "refused_since", "write")

    def __init__(self, write: ResultWrite, frame: bytes, done: Done) -> None:
        self.write = write
        self.frame = frame
        self.done = done
        self.refused_since = 0.0


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
        self._prefix = task_key_prefix(settings.global_keyprefix)
        self._lifetime = lifetime(settings.expires)
        failure = settings.expires if settings.failure_expires is None else settings.failure_expires
        self._failure_lifetime = lifetime(failure)
        self._unsent: deque[_Pending] = deque()
        self._sent: deque[_Pending] = deque()
        self._failed: deque[_Pending] = deque()
        self._failed_ids: set[str] = set()
        self._bytes = 0
        self._congested = False
        self._connection: RedisConnection | None = None
        self._flush_due = False
        #: Set after an error reply: send one write only, until the server accepts one.
        self._probing = False
        self._retry_timer: asyncio.TimerHandle | None = None
        self._refusals = 0
        self._last_heard = 0.0
        self._runner: asyncio.Task[None] | None = None
        self._stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def backlog(self) -> int:
        """Number of writes whose ``done`` has not been called."""
        return len(self._unsent) + len(self._sent) + len(self._failed)

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
            logger.error("result of task %s not stored: %s", write.task_id, why)
            asyncio.get_running_loop().call_soon(report, ((done, StoreOutcome.FAILED),))
            return
        seconds = self._failure_lifetime if write.failed else self._lifetime
        frame = store_frame(self._prefix + write.task_id.encode(), write.payload, seconds, write.guard)
        self._unsent.append(_Pending(write, frame, done))
        self._bytes += len(frame)
        if not self._flush_due:
            self._schedule_flush()
        limits = self._settings
        if self._bytes >= limits.high_water_bytes or self.backlog >= limits.high_water:
            self._congested = True

    async def start(self) -> None:
        """Begin to connect;

        return at once, whether Redis is up or not. A bad certificate path raises here.
        """
        if self._runner is None and not self._stopped:
            self._loop = asyncio.get_running_loop()
            if self._address.tls is not None:
                self._tls = self._address.tls.context()
            self._runner = self._loop.create_task(self._run(), name="turbo-redis-results")

    async def drain(self, deadline: float) -> bool:
        """Wait until the backlog is empty, or until ``deadline`` (``time.monotonic``).

        Return whether it is.
        """
        while self.backlog and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), left)
            except TimeoutError:
                break
        return not self.backlog

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
        self._recover()
        left = list(self._unsent)
        self._unsent.clear()
        self._bytes = 0
        if left:
            names = ", ".join(pending.write.task_id for pending in left[:_NAMED])
            logger.error("%d results not stored before the worker stopped; tasks %s%s", len(left), names,
                         "" if len(left) <= _NAMED else ", …")  # fmt: skip
            report([(pending.done, StoreOutcome.FAILED) for pending in left])

    # -- sending ---------------------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        self._flush_due = True
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what is waiting. Nothing goes out while refused writes wait for their turn."""
        self._flush_due = False
        connection = self._connection
        if connection is None or self._failed or self._retry_timer is not None:
            return
        unsent, sent = self._unsent, self._sent
        if unsent and not sent:
            self._last_heard = time.monotonic()
        while unsent and connection.writable:
            frames: list[bytes] = []
            size = 0
            while unsent and size < _CHUNK:
                if self._probing and sent:
                    break
                pending = unsent.popleft()
                sent.append(pending)
                frames.append(pending.frame)
                size += len(pending.frame)
            if not frames:
                return
            connection.write(frames[0] if len(frames) == 1 else b"".join(frames))

    # -- answers ---------------------------------------------------------------------------------------------

    def _on_replies(self, replies: list[object]) -> None:
        """Match replies to writes by order, then tell everyone; callers may store again from inside."""
        self._last_heard = time.monotonic()
        settled: list[tuple[Done, StoreOutcome]] = []
        sent = self._sent
        for reply in replies:
            if not sent:
                self._abort("a reply that belongs to no write")
                break
            pending = sent.popleft()
            if reply == 1 or reply == 0:
                self._bytes -= len(pending.frame)
                settled.append((pending.done, StoreOutcome.STORED if reply else StoreOutcome.KEPT))
                self._accepted(pending, settled)
            elif isinstance(reply, bytes):
                self._judge_compressed(pending, reply, settled)
            else:
                self._refused(pending, str(reply), settled)
        if self._failed and not sent:
            self._repeat_later()
        elif self._unsent and not self._flush_due:
            self._schedule_flush()
        report(settled)
        self._relieve()

    def _accepted(self, pending: _Pending, settled: list[tuple[Done, StoreOutcome]]) -> None:
        """The server takes writes again; an older refused document of the same task has been superseded."""
        self._refusals = 0
        self._probing = False
        if pending.write.task_id not in self._failed_ids:
            return
        self._failed_ids.discard(pending.write.task_id)
        older = [one for one in self._failed if one.write.task_id == pending.write.task_id]
        self._failed = deque(one for one in self._failed if one.write.task_id != pending.write.task_id)
        for one in older:
            self._bytes -= len(one.frame)
            settled.append((one.done, StoreOutcome.KEPT))

    def _judge_compressed(
        self, pending: _Pending, there: bytes, settled: list[tuple[Done, StoreOutcome]]
    ) -> None:
        """The script could not read the document that is there: read it here, and write or leave it."""
        if says_success(there):
            self._bytes -= len(pending.frame)
            settled.append((pending.done, StoreOutcome.KEPT))
            return
        write = pending.write
        seconds = self._failure_lifetime if write.failed else self._lifetime
        pending.frame = store_frame(self._prefix + write.task_id.encode(), write.payload, seconds, False)
        self._unsent.appendleft(pending)

    def _refused(
        self, pending: _Pending, message: str, settled: list[tuple[Done, StoreOutcome]]
    ) -> None:
        now = time.monotonic()
        fault = classify(message)
        if fault is not Fault.PERMANENT:
            pending.refused_since = pending.refused_since or now
            if now - pending.refused_since < self._settings.give_up_after:
                self._failed.append(pending)
                self._failed_ids.add(pending.write.task_id)
                if self._refusals == 0:
                    logger.warning("Redis refuses results for now, repeating them: %s", message)
                    self._refusals = 1
                if fault is Fault.RECONNECT:
                    self._probing = True
                    self._abort(message)
                return
        self._bytes -= len(pending.frame)
        logger.error("result of task %s not stored: Redis says %s", pending.write.task_id, message)
        settled.append((pending.done, StoreOutcome.FAILED))

    def _repeat_later(self) -> None:
        """Put refused writes back in front and wait;

        then one of them asks whether the server has recovered.
        """
        self._recover()
        self._probing = True
        self._refusals += 1
        if self._retry_timer is None and self._loop is not None:
            delay = reconnect_delay(self._refusals, random.random(), _REFUSED_BACKOFF)
            self._retry_timer = self._loop.call_later(delay, self._repeat)

    def _repeat(self) -> None:
        self._retry_timer = None
        self._flush()

    def _recover(self) -> None:
        """Gather every unanswered write at the front, oldest first."""
        self._unsent.extendleft(reversed(self._sent))
        self._unsent.extendleft(reversed(self._failed))
        self._sent.clear()
        self._failed.clear()
        self._failed_ids.clear()

    def _relieve(self) -> None:
        if not self.backlog:
            self._idle.set()
        limits = self._settings
        if not self._congested or self.backlog > limits.high_water // 2:
            return
        if self._bytes <= limits.high_water_bytes // 2:
            self._congested = False
            if self._on_relief is not None:
                self._on_relief()

    # -- the connection --------------------------------------------------------------------------------------

    def _abort(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.abort(reason)

    async def _run(self) -> None:
        """Keep one connection alive until cancelled."""
        failures = 0
        while True:
            try:
                connection = await self._connect()
            except (OSError, OperationalError) as error:
                failures += 1
                if failures in (1, 5) or failures % 30 == 0:
                    logger.warning("results wait for Redis at %s: %s", self._address, _reason(error))
            except Exception:
                # whatever it is, the results that wait must not be lost to it
                failures += 1
                logger.exception("results wait for Redis at %s", self._address)
            else:
                failures = await self._attend(connection, failures)
            await asyncio.sleep(reconnect_delay(failures, random.random(), _CONNECT_BACKOFF))

    async def _connect(self) -> RedisConnection:
        timeout = self._address.socket_connect_timeout or self._settings.connect_timeout
        return await connect(self._address, self._tls, self._on_replies, self._flush, timeout)

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
            if connection.lost is None:
                self._flush()
            while not connection.closed.done():
                await asyncio.wait((connection.closed,), timeout=_WATCH)
                if self._sent and time.monotonic() - self._last_heard > limit:
                    connection.abort(f"no reply for {limit:g} s")
        finally:
            self._connection = None
            connection.abort("the store is closing")
            if not self._stopped:
                logger.warning("connection to Redis at %s lost (%s), %d results to repeat", self._address,
                               connection.lost, len(self._sent) + len(self._failed))  # fmt: skip
            self._recover()
        return 0 if time.monotonic() - began > _WATCH else failures + 1


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
