"""A result store whose client library blocks.

A thread writes batches; the loop never waits for it.

Before it: the master passes a document that a child has encoded. After it: a ``BatchWriter``, which writes one batch
and returns when the server holds it (``backends.sql.writer``). Runs in the master. It never drops a write without a log
message, never calls ``done`` before the write is stored, and never lets a later write overtake an earlier one.

The hand-over. A write belongs to the loop until it is part of a batch, and the loop makes a batch only when fewer than
``_AHEAD`` are with the thread. The batch then belongs to the thread, which only reads it: the thread's ``inbox``, a
``SimpleQueue`` with one writer and one reader, orders what the loop has put into the batch before what the thread
reads. The thread writes batch after batch, repeats what fails until it is stored or given up, and posts the outcomes
with ``call_soon_threadsafe``, which keeps the order in which they are posted and orders them before ``_settle`` reads
them. So the loop alone changes ``_unsent`` and ``_sent``, and the first outcome always belongs to the oldest write of
``_sent``. Two fields are read across: ``_halt`` is an Event, and ``since`` a float that only the thread writes; the
loop reads it once a second, and an old value delays the end of a dead connection by a second, or ends a connection
whose answer came that very moment, which costs a repetition. ``stop`` ends every write
that is left as FAILED and then ignores what the thread posts, so that each ``done`` is called once; a batch that the
thread stores nevertheless is a result stored twice, as after a lost connection.

The thread starts in ``start``, on the running loop. Children are forked by the spawner, a process of its own that was
forked before the loop existed, so no fork copies the thread's locks. Python runs signal handlers in the main thread. It
is a daemon thread: a server that does not answer must not keep the worker from ending.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from turbo.backends.store import Done, ResultWrite, StoreOutcome, StoreSettings, report
from turbo.backends.writer_thread import BatchWriter, WriterThread
from turbo.log_format import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

#: Batches with the thread: it writes one while the next is ready.
_AHEAD: Final = 2
#: Maximum number of writes and of bytes in a batch. A larger document is a batch of its own.
_BATCH: Final = 500
_BATCH_BYTES: Final = 2 * 1024 * 1024
#: Interval in seconds at which a running write is checked for a missing answer.
_WATCH: Final = 1.0
#: Seconds for the thread to end after its connection was closed; then it is left behind.
_LEAVE: Final = 1.0
#: Maximum number of task ids in one log line.
_NAMED: Final = 20


class _Pending(NamedTuple):
    write: ResultWrite
    done: Done


class BlockingStore:
    """Implements ``ResultStore`` with a ``BatchWriter`` in a thread of its own."""

    def __init__(
        self,
        writer: BatchWriter,
        settings: StoreSettings,
        *,
        on_relief: Callable[[], None] | None = None,
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._on_relief = on_relief
        #: Writes that no batch has, and those with the thread, both oldest first. Used by the loop alone.
        self._unsent: deque[_Pending] = deque()
        self._sent: deque[_Pending] = deque()
        self._bytes = 0
        self._batches = 0
        self._congested = False
        self._flush_due = False
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: WriterThread | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Number of writes whose ``done`` has not been called."""
        return len(self._unsent) + len(self._sent)

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

    def store(self, write: ResultWrite, done: Done) -> None:
        """Accept a write; it is written with the others of this loop iteration."""
        if self._stopped:
            logger.error("Result of task %s not stored: the result store is closed", printable(write.task_id))
            asyncio.get_running_loop().call_soon(report, ((done, StoreOutcome.FAILED),))
            return
        self._unsent.append(_Pending(write, done))
        self._bytes += len(write.payload)
        if self._bytes >= self._settings.high_water_bytes or self.backlog >= self._settings.high_water:
            self._congested = True
        self._flush_soon()

    async def start(self) -> None:
        """Start the thread, which connects.

        Returns at once, whether or not the server is up.
        """
        if self._thread is not None or self._stopped:
            return
        self._loop = asyncio.get_running_loop()
        self._thread = WriterThread(self._writer, self._settings.give_up_after, self._post)
        self._thread.start()
        self._watch = self._loop.call_later(_WATCH, self._look)
        self._flush_soon()

    async def drain(self, deadline: float) -> bool:
        """Wait until the backlog is empty or until ``deadline`` (``time.monotonic``).

        Returns whether it is empty.
        """
        while self.backlog and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), left)
            except TimeoutError:
                break
        return not self.backlog

    async def stop(self, deadline: float) -> None:
        """Drain, then close.

        Writes that are left at the deadline end as FAILED, and their tasks are logged.
        """
        if not self._stopped and self._thread is not None:
            await self.drain(deadline)
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.halt()
            if self._sent:
                self._writer.abort()
            try:
                await asyncio.wait_for(self._ended.wait(), _LEAVE)
            except TimeoutError:
                logger.warning("The connection to %s does not close; leaving it", self._writer.place)
        left = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        self._bytes = 0
        if left:
            names = ", ".join(printable(pending.write.task_id) for pending in left[:_NAMED])
            dots = "" if len(left) <= _NAMED else ", …"
            logger.error("%d results not stored before the worker stopped: tasks %s%s", len(left), names, dots)
            report([(pending.done, StoreOutcome.FAILED) for pending in left])
        self._idle.set()

    # -- between the loop and the thread ---------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flush_due and self._loop is not None:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hand batches to the thread, while it has room and there are writes."""
        self._flush_due = False
        thread, unsent = self._thread, self._unsent
        while thread is not None and unsent and self._batches < _AHEAD:
            batch: list[ResultWrite] = []
            size = 0
            while unsent and len(batch) < _BATCH and (not batch or size + len(unsent[0].write.payload) < _BATCH_BYTES):
                pending = unsent.popleft()
                self._sent.append(pending)
                batch.append(pending.write)
                size += len(pending.write.payload)
            self._batches += 1
            thread.inbox.put(batch)

    def _post(self, outcomes: Sequence[StoreOutcome], over: bool, ended: bool = False) -> None:
        """Hand outcomes to the loop. Called by the thread."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._settle, outcomes, over, ended)
        except RuntimeError as error:
            # The loop is closed: the worker has ended without waiting for the thread.
            logger.debug("Outcomes of result writes come too late: %s", error)

    def _settle(self, outcomes: Sequence[StoreOutcome], over: bool, ended: bool) -> None:
        """Report the oldest writes of the batches.

        ``over``: a batch is done; ``ended``: the thread has ended.
        """
        if ended:
            self._ended.set()
            if not self._stopped:
                # An error that no driver should raise, such as SystemExit. What waits is acknowledged by nobody, so the
                # broker has it still.
                logger.critical(
                    "The thread that writes results to %s has ended: %d results wait, and no more are stored; restart "
                    "the worker",
                    self._writer.place,
                    self.backlog,
                )
        if self._stopped and self._thread is None and not self._sent:
            return
        self._batches -= over
        settled: list[tuple[Done, StoreOutcome]] = []
        for outcome in outcomes:
            pending = self._sent.popleft()
            self._bytes -= len(pending.write.payload)
            settled.append((pending.done, outcome))
        self._flush()
        report(settled)
        self._relieve()

    def _relieve(self) -> None:
        if not self.backlog:
            self._idle.set()
        limits = self._settings
        if not self._congested or self.backlog > limits.high_water // 2 or self._bytes > limits.high_water_bytes // 2:
            return
        self._congested = False
        if self._on_relief is not None:
            self._on_relief()

    def _look(self) -> None:
        """Break the connection of a write that has had no answer for too long."""
        assert self._loop is not None
        self._watch = self._loop.call_later(_WATCH, self._look)
        since = self._thread.since if self._thread is not None else 0.0
        if since and time.monotonic() - since > self._settings.reply_timeout:
            self._writer.abort()
