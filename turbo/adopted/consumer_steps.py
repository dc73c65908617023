"""Runs the consumer bootsteps of a Celery app that open consumers of their own.

Runs in the master, on a thread with a connection of its own by kombu; ``adopted.hooks`` starts it before
``worker_ready`` and stops it when the worker is asked to stop. What such a step consumes is the app's own business: its
callbacks run on the thread and acknowledge by themselves. When the connection is lost, or a callback raises, the steps
are stopped, and started again on the next connection. It must never touch the worker's own connections.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from turbo.adopted.steps import CONSUMER, runnable
from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from celery import Celery

    from turbo.adopted.facade import AdoptedConsumer

logger = logging.getLogger("celery.bootsteps")

_BACKOFF: Final = Backoff(first=1.0, cap=30.0)
#: Seconds that steps must have run for their next end to count as the first.
_STABLE: Final = 60.0
#: Seconds between looks at whether the worker stops, and at heartbeats.
_STEP: Final = 0.5
#: Seconds that the end of the worker waits for a callback that runs.
_PATIENCE: Final = 5.0


class ConsumerSteps:
    """The consumer steps of one app, from :meth:`start` to :meth:`stop`."""

    def __init__(self, app: Celery, consumer: AdoptedConsumer) -> None:
        self._app = app
        self._consumer = consumer
        self._steps: list[Any] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the steps and start the thread that runs them, if there are any."""
        for kind in runnable(self._app, CONSUMER):
            step = kind(self._consumer, **self._consumer.controller.options)
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
                with self._app.connection_for_read(heartbeat=self._app.conf.broker_heartbeat) as connection:
                    connection.connect()
                    self._consume(connection)
            except Exception as error:
                failures = 1 if time.monotonic() - began > _STABLE else failures + 1
                seconds = reconnect_delay(failures, random.random(), _BACKOFF)
                logger.exception("Consumer bootsteps stopped: %r; starting them again in %.1f s", error, seconds)
                self._stopping.wait(seconds)

    def _consume(self, connection: Any) -> None:
        self._consumer.connection = connection
        started: list[Any] = []
        try:
            for step in self._steps:
                step.start(self._consumer)
                started.append(step)
            checked = time.monotonic()
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=_STEP)
                # Also while messages come without a pause: a consumer that acknowledges nothing sends nothing else.
                if time.monotonic() - checked >= _STEP:
                    connection.heartbeat_check()
                    checked = time.monotonic()
        finally:
            for step in reversed(started):
                step.stop(self._consumer)
            self._consumer.connection = None
