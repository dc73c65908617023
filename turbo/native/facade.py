"""The worker and consumer objects of worker signals.

Receivers get them. This module also sends these signals.

``name_worker``, ``set_up_logging`` and ``prepare`` run in the command, before anything is forked; the rest runs on the
master's hook thread. The objects carry the attributes that receivers read. They must never control the worker.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from turbo import signals
from turbo.log_format import TASK_LOGGER, install
from turbo.native.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.base import Turbo
    from turbo.log_format import LogSetup
    from turbo.policy.worker_options import WorkerOptions


class Consumer:
    """The sender of ``worker_ready`` and of the signals about messages."""

    def __init__(self, controller: Worker) -> None:
        self.controller = controller
        self.app = controller.app
        #: The connection of bootsteps that consume, while there is one. Written by their thread.
        self.connection: Any = None
        self.steps: list[Any] = []

    @property
    def hostname(self) -> str:
        """The worker's node name."""
        return self.controller.hostname

    @property
    def pid(self) -> int:
        """The master's process."""
        return os.getpid()


class Worker:
    """The sender of ``worker_init`` and ``worker_shutdown``.

    It is also ``instance`` of the set-up signals.
    """

    def __init__(self, app: Turbo) -> None:
        self.app = app
        self.hostname = ""
        self.consumer = Consumer(self)
        self.options: dict[str, Any] = {}
        self.concurrency = 0
        self.loglevel = 0
        self.logfile: str | None = None
        #: The bootsteps that have included themselves.
        self.steps: list[Any] = []
        self._timer: Timer | None = None

    @property
    def timer(self) -> Timer:
        """A timer for bootsteps; its thread starts with the first call."""
        if self._timer is None:
            self._timer = Timer()
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

    # -- in the command ----------------------------------------------------------------------------------

    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """Send ``celeryd_init``, the first signal.

        Receivers may still change the configuration.
        """
        self.hostname = hostname
        self.options = dict(given)
        signals.celeryd_init.send(sender=hostname, instance=self, conf=self.app.conf, options=self.options)

    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """Set logging up, unless a receiver of ``setup_logging`` does. May raise OSError."""
        same = {"loglevel": setup.level, "logfile": setup.logfile, "colorize": setup.colour}
        if signals.setup_logging.send(sender=None, format=setup.worker_format, **same):
            return
        install(setup)
        signals.after_setup_logger.send(
            sender=None, logger=logging.getLogger(), format=setup.worker_format, **same
        )  # fmt: skip
        signals.after_setup_task_logger.send(
            sender=None, logger=logging.getLogger(TASK_LOGGER), format=setup.task_format, **same
        )

    def prepare(self, options: WorkerOptions) -> None:
        """Send the set-up signals, before anything is forked.

        Receivers may still change the queues.
        """
        self.concurrency = options.places
        self.loglevel = options.loglevel
        self.logfile = options.logfile
        signals.worker_init.send(sender=self)
        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=self.app.conf)

    # -- in the master -----------------------------------------------------------------------------------

    def announce_ready(self) -> None:
        """Send ``worker_ready``: the worker consumes."""
        signals.worker_ready.send(sender=self.consumer)

    def announce_shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Send ``worker_shutting_down``: the worker was asked to stop."""
        signals.worker_shutting_down.send(sender=self.hostname, sig=signal, how=how, exitcode=exit_code)

    def announce_shutdown(self) -> None:
        """Send ``worker_shutdown``: the worker ends."""
        signals.worker_shutdown.send(sender=self)
