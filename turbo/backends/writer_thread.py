"""The thread that writes results with a client library that blocks.

Started by ``backends.blocking_store`` in the master; that module's docstring says how the two hand writes over. Before
it: batches of documents. After it: a ``BatchWriter``, such as that of ``backends.sql``. It repeats a batch until it is
stored or given up, and never goes on to the next one before.
"""

from __future__ import annotations

import enum
import logging
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from turbo.backends.store import ResultWrite, StoreOutcome
from turbo.log_format import printable
from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

#: Pauses between attempts to connect, and between attempts to write to a server that refuses writes for now.
_LOST_BACKOFF: Final = Backoff(first=0.05, cap=3.0)
_REFUSED_BACKOFF: Final = Backoff(first=0.05, cap=2.0)


class Trouble(enum.Enum):
    """Why a batch was not written, and so what follows."""

    #: The server cannot be reached. Repeated without a limit.
    LOST = "lost"
    #: The server refuses for now. Repeated until ``StoreSettings.give_up_after``.
    REFUSED = "refused"
    #: The server will never take it. Written one at a time, to find the document that it refuses.
    PERMANENT = "permanent"


class WriteError(Exception):
    """A batch was not written, or nobody knows whether it was.

    It may be written again.

    The text is for the log; it contains no password.
    """

    def __init__(self, trouble: Trouble, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble


class BatchWriter(Protocol):
    """Writes batches, blocking. Called by one thread; ``abort`` by any."""

    @property
    def place(self) -> str:
        """Names the store in log messages, without a password."""

    def open(self) -> None:
        """Connect, to find faults early. Writing connects too. Raises WriteError."""

    def write(self, batch: Sequence[ResultWrite]) -> Sequence[StoreOutcome]:
        """Write all or nothing, in order; return the outcome of each.

        Returns when the store holds them.

        Outcomes are STORED and KEPT. Raises WriteError. Writing a batch again has the effect of writing it once.
        """

    def abort(self) -> None:
        """Break the connection of a running write, if that is possible. Never blocks."""

    def close(self) -> None:
        """Disconnect. The next write connects again."""


class WriterThread(threading.Thread):
    """Writes the batches of its inbox one after the other, until ``halt``."""

    def __init__(
        self, writer: BatchWriter, give_up_after: float, post: Callable[[Sequence[StoreOutcome], bool, bool], None]
    ) -> None:
        super().__init__(name="turbo-results-writer", daemon=True)
        self._writer = writer
        self._give_up_after = give_up_after
        self._post = post
        #: Batches, put by the loop; None ends the thread.
        self.inbox: queue.SimpleQueue[list[ResultWrite] | None] = queue.SimpleQueue()
        #: Monotonic time at which the running attempt began; 0: none runs. Written by the thread, read by the loop.
        self.since = 0.0
        self._halt = threading.Event()
        #: Failed attempts in a row, by kind. Used by the thread alone.
        self._lost = 0
        self._refused = 0

    def halt(self) -> None:
        """Ask the thread to end; it abandons what it has not written. Called by the loop."""
        self._halt.set()
        self.inbox.put(None)

    def run(self) -> None:
        """Write until halted."""
        try:
            self._open()
            while (batch := self.inbox.get()) is not None and not self._halt.is_set():
                self._persist(batch)
        finally:
            self._writer.close()
            self._post((), False, True)

    def _open(self) -> None:
        self.since = time.monotonic()
        try:
            self._writer.open()
        except WriteError as error:
            self._note(error)
        except Exception:
            # The first write connects, and reports what is wrong then.
            logger.exception("Unexpected error while connecting to %s", self._writer.place)
        finally:
            self.since = 0.0

    def _persist(self, batch: list[ResultWrite]) -> None:
        """Write a batch, however long it takes, and post the outcomes in order."""
        size = len(batch)
        #: When each write was first refused; as long as the batch, 0.0: never.
        refused = [0.0] * size
        place = 0
        while place < len(batch) and not self._halt.is_set():
            part = batch[place : place + size]
            try:
                outcomes = self._attempt(part)
            except WriteError as error:
                now = time.monotonic()
                if error.trouble is not Trouble.LOST:
                    refused[place : place + len(part)] = [first or now for first in refused[place : place + len(part)]]
                    if len(part) > 1:
                        # Find the document that is refused: go on one at a time.
                        size = 1
                    elif (final := self._given_up(part[0], error, now - refused[place])) is not None:
                        place += 1
                        self._post((final,), place == len(batch), False)
                        continue
                if error.trouble is not Trouble.PERMANENT:
                    self._pause(error)
                continue
            self._recovered()
            place += len(part)
            size = min(size * 2, len(batch))
            self._post(outcomes, place == len(batch), False)

    def _attempt(self, part: list[ResultWrite]) -> Sequence[StoreOutcome]:
        self.since = time.monotonic()
        try:
            return self._writer.write(part)
        except WriteError:
            raise
        except Exception as error:
            # An unexpected error must not lose the waiting results.
            logger.exception("Unexpected error while writing results to %s", self._writer.place)
            raise WriteError(Trouble.REFUSED, f"{type(error).__name__}") from error
        finally:
            self.since = 0.0

    def _given_up(self, write: ResultWrite, error: WriteError, refused_for: float) -> StoreOutcome | None:
        """Return the outcome of a refused write that is not repeated, or None."""
        if error.trouble is Trouble.REFUSED and refused_for < self._give_up_after:
            return None
        logger.error("Result of task %s not stored: %s", printable(write.task_id), error)
        return StoreOutcome.REFUSED if error.trouble is Trouble.PERMANENT else StoreOutcome.FAILED

    def _pause(self, error: WriteError) -> None:
        self._note(error)
        lost = error.trouble is Trouble.LOST
        failures, backoff = (self._lost, _LOST_BACKOFF) if lost else (self._refused, _REFUSED_BACKOFF)
        self._halt.wait(reconnect_delay(failures, random.random(), backoff))

    def _note(self, error: WriteError) -> None:
        """Count a failed attempt; log the first and then a few."""
        if error.trouble is Trouble.LOST:
            self._lost += 1
            if self._lost in (1, 5) or self._lost % 30 == 0:
                logger.warning("Cannot reach %s; results wait, retrying: %s", self._writer.place, error)
            return
        self._refused += 1
        if self._refused == 1:
            logger.warning("%s refuses results; repeating them until it accepts one: %s", self._writer.place, error)

    def _recovered(self) -> None:
        if self._lost or self._refused:
            logger.info("%s accepts results again", self._writer.place)
        self._lost = self._refused = 0
