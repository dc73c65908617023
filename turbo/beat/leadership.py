"""One of several beats sends; the others wait to follow it.

Between ``beat.service`` and ``amqp.client.leader_queue``, in the beat process. The value in the queue is the last run
of every entry: the leader stores it before each sending, so a beat that follows repeats no run. It must never send a
task.
"""

from __future__ import annotations

import logging
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from turbo.beat import runs as run_values
from turbo.exceptions import OperationalError
from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from turbo.amqp.client.leader_queue import LeaderQueue
    from turbo.beat.runs import Run, Runs
    from turbo.beat.stop_request import StopRequest

logger = logging.getLogger("celery.beat")

_BACKOFF: Final = Backoff(first=0.2, cap=3.0)
#: Seconds of one look at the connection, between two looks at whether beat is to end.
_STEP: Final = 0.5
#: Seconds after which the value is stored again: the broker closes a channel that keeps a message for half an hour.
_REFRESH: Final = 60.0
#: How long runs of entries that this beat does not have are kept, for beats of another version of the program.
_KEPT: Final = timedelta(days=31)


class Leadership:
    """The turn of one beat among several."""

    def __init__(self, queue: LeaderQueue, stop: StopRequest) -> None:
        self._queue = queue
        self._stop = stop
        self._failures = 0
        self._waiting_said = False
        #: What the leader before this one left.
        self._found: dict[str, Run] = {}
        self._stored: tuple[float, bytes] = (0.0, b"")

    @property
    def leads(self) -> bool:
        """Whether this beat sends, as far as it knows."""
        return self._queue.leads

    def wait(self, seconds: float) -> Runs | None:
        """Wait at most so long to become the leader.

        Return the last runs that the one before has left.
        """
        deadline = time.monotonic() + seconds
        while not self._serve(max(0.0, min(_STEP, deadline - time.monotonic()))) and not self._stop.wait(0):
            if self._queue.leads:
                return self._begin()
            if not self._waiting_said:
                self._waiting_said = True
                logger.info("beat: Another beat sends for this app (queue %s); waiting", self._queue.queue)
            if time.monotonic() >= deadline:
                break
        return None

    def _begin(self) -> Runs:
        self._waiting_said = False
        value = self._queue.value
        try:
            self._found = run_values.decode(value) if value else {}
        except ValueError as error:
            logger.error(
                "beat: the last runs in the queue %s cannot be understood (%s); using those of this beat",
                self._queue.queue,
                error,
            )
            self._found = {}
        logger.info("beat: This beat sends from now on (queue %s)", self._queue.queue)
        return self._found

    def rest(self, seconds: float) -> bool:
        """Wait so long, or until the lead is lost or beat is to end.

        Return whether it is to end.
        """
        deadline = time.monotonic() + seconds
        while self._queue.leads:
            left = deadline - time.monotonic()
            if self._stop.wait(0) or self._serve(max(0.0, min(_STEP, left))):
                return self._stop.wait(0)
            at, value = self._stored
            if value and time.monotonic() - at > _REFRESH:
                self._store(value)
            if left <= 0:
                break
        return self._stop.wait(0)

    def claim(self, runs: Runs) -> bool:
        """Store the last runs in the broker; False if the lead was lost."""
        oldest = datetime.now(UTC) - _KEPT
        others = {name: run for name, run in self._found.items() if name not in runs and run.last_run_at > oldest}
        return self._store(run_values.encode({**others, **runs}))

    def _store(self, value: bytes) -> bool:
        try:
            self._queue.store(value)
        except OperationalError as error:
            self._lost(error)
            return False
        self._stored = (time.monotonic(), value)
        return True

    def _serve(self, seconds: float) -> bool:
        """Serve the connection for so long, after opening it if there is none.

        Return whether it was lost.
        """
        try:
            if not self._queue.connected:
                if self._stop.wait(reconnect_delay(self._failures, random.random(), _BACKOFF)):
                    return True
                self._queue.connect()
                self._failures = 0
            self._queue.wait(seconds)
        except OperationalError as error:
            self._lost(error)
            return True
        return False

    def _lost(self, error: OperationalError) -> None:
        led = self._queue.leads
        self._queue.close()
        self._failures += 1
        self._waiting_said = False
        logger.error(
            "beat: Connection error: %s; %s, and connects again",
            error,
            "this beat stops sending" if led else "this beat cannot be elected",
        )

    def close(self) -> None:
        """Give the lead up; the next beat sends at once."""
        self._queue.close()
