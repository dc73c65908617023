"""The worker and consumer objects of Celery's worker signals.

Receivers get them. This module also sends these signals.

``announce_init`` and ``announce_setup`` run in the command, before anything is forked; the others run on the master's
hook thread. The two objects carry the attributes that receivers read. They must never control the worker.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from celery import signals
from celery.utils.timer2 import Timer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from turbo.policy.worker_options import WorkerOptions

#: Longest sleep of the timer's thread in seconds, for which the worker's end may have to wait.
_TIMER_STEP: Final = 0.2


class AdoptedConsumer:
    """The sender of ``worker_ready`` and of the signals about messages."""

    def __init__(self, worker: AdoptedWorker) -> None:
        self.controller = worker
        self.app = worker.app
        self.event_dispatcher = None
        #: kombu's connection, while consumer bootsteps run. Written by their thread.
        self.connection: Any = None

    @property
    def hostname(self) -> str:
        """The worker's node name."""
        return self.controller.hostname

    @property
    def pid(self) -> int:
        """The master's process."""
        return os.getpid()


class AdoptedWorker:
    """The sender of ``worker_init`` and ``worker_shutdown``.

    It is also ``instance`` of the set-up signals.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.hostname = ""
        self.consumer = AdoptedConsumer(self)
        self.options: dict[str, Any] = {}
        self.concurrency = 0
        self.loglevel = 0
        self.logfile: str | None = None
        self.pool_cls = "prefork"
        self.exitcode: int | None = None
        #: The bootsteps that have included themselves.
        self.steps: list[Any] = []
        self._timer: Timer | None = None

    @property
    def timer(self) -> Timer:
        """Celery's timer for workers without its event loop.

        Its thread starts with the first call.
        """
        if self._timer is None:
            self._timer = Timer(max_interval=_TIMER_STEP)
        return self._timer

    def end_timer(self) -> None:
        """Wait for the timer's running call, if any, and end it."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    @property
    def pid(self) -> int:
        """The master's process."""
        return os.getpid()

    def announce_init(self, given: Mapping[str, Any]) -> None:
        """Send ``celeryd_init``, the first signal.

        Receivers may still change the configuration.
        """
        self.options = dict(given)
        signals.celeryd_init.send(sender=self.hostname, instance=self, conf=self.app.conf, options=self.options)

    def announce_setup(self, options: WorkerOptions) -> None:
        """Send the set-up signals; receivers may still change the queues."""
        self.concurrency = options.places
        self.pool_cls = "threads" if options.threads else "prefork"
        self.loglevel = options.loglevel
        self.logfile = options.logfile
        signals.worker_init.send(sender=self)
        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=self.app.conf)

    def announce_ready(self) -> None:
        """Send ``worker_ready``: the worker consumes."""
        signals.worker_ready.send(sender=self.consumer)

    def announce_shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Send ``worker_shutting_down``: the worker was asked to stop."""
        signals.worker_shutting_down.send(sender=self.hostname, sig=signal, how=how, exitcode=exit_code)

    def announce_shutdown(self) -> None:
        """Shut the loader down, then send ``worker_shutdown``: the worker ends."""
        self.app.loader.shutdown_worker()
        signals.worker_shutdown.send(sender=self)
