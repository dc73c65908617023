"""Runs the consumer bootsteps of a program, which open consumers of their own.

Runs in the master, on a thread with a connection of its own; ``master.bootsteps`` starts it before ``worker_ready`` and
stops it when the worker is asked to stop. What such a step consumes is the program's own business: its callbacks run on
the thread and acknowledge by themselves. When the connection is lost, or a callback raises, the steps are stopped, and
started again on the next connection. It must never touch the worker's own connections.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

logger = logging.getLogger("celery.bootsteps")

_BACKOFF: Final = Backoff(first=1.0, cap=30.0)
#: Seconds that steps must have run for their next end to count as the first.
_STABLE: Final = 60.0
#: Seconds between looks at whether the worker stops, and at heartbeats.
_STEP: Final = 0.5
#: Seconds that the end of the worker waits for a callback that runs.
_PATIENCE: Final = 5.0


class Connected(Protocol):
    """An open connection."""

    @property
    def handle(self) -> Any:
        """The connection as steps see it."""

    def serve(self, seconds: float) -> None:
        """Call the consumers for what arrives, for so long.

        Heartbeats keep the connection alive.
        """


class Consuming(Protocol):
    """The consumer object, as steps of the program's see it."""

    #: The connection, while there is one. Written by the thread of the steps.
    connection: Any


class ConsumerSteps:
    """The consumer steps of one app, from :meth:`start` to :meth:`stop`.

    ``kinds`` are their classes, ``options`` those of the command line; ``connect`` opens a connection.
    """

    def __init__(
        self,
        kinds: Sequence[Any],
        consumer: Consuming,
        options: Callable[[], dict[str, Any]],
        connect: Callable[[], AbstractContextManager[Connected]],
    ) -> None:
        self._kinds = kinds
        self._consumer = consumer
        self._options = options
        self._connect = connect
        self._steps: list[Any] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the steps and start the thread that runs them, if there are any."""
        for kind in self._kinds:
            step = kind(self._consumer, **self._options())
            if step.include_if(self._consumer):
                self._steps.append(step)
        if self._steps:
            self._thread = threading.Thread(target=self._run, name="consumer-steps", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the steps and close their connection; does nothing when called again."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_PATIENCE)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                with self._connect() as connection:
                    self._consume(connection)
            except Exception as error:
                failures = 1 if time.monotonic() - began > _STABLE else failures + 1
                seconds = reconnect_delay(failures, random.random(), _BACKOFF)
                logger.exception("Consumer bootsteps stopped: %r; starting them again in %.1f s", error, seconds)
                self._stopping.wait(seconds)

    def _consume(self, connection: Connected) -> None:
        self._consumer.connection = connection.handle
        started: list[Any] = []
        try:
            for step in self._steps:
                step.start(self._consumer)
                started.append(step)
            while not self._stopping.is_set():
                connection.serve(_STEP)
        finally:
            for step in reversed(started):
                step.stop(self._consumer)
            self._consumer.connection = None
