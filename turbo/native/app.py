"""A ``turbo.Turbo`` as a worker's app: what the command and the wiring ask of it.

Made by ``cli.app_option`` around the app it found. It hands the executor to the children before the fork, and hooks and
commands to the master after it: their modules are imported there, so that no child has them in its memory. It must
never change the app but by its configuration.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from turbo import signals
from turbo.app.celery_view import celery_view
from turbo.app.conf import unsupported
from turbo.app.publish.queues import direct_queue
from turbo.backends.open_store import store_settings
from turbo.control.panel import Panel
from turbo.exceptions import OperationalError
from turbo.hosting import HostedApp
from turbo.log_format.redirection import redirected
from turbo.native import steps
from turbo.native.executor import native
from turbo.native.facade import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import TextIO

    from turbo.amqp.topology import Queue
    from turbo.app.base import Turbo
    from turbo.backends.store import StoreSettings
    from turbo.beat.options import BeatOptions
    from turbo.beat.stop_request import StopRequest
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.control.app_commands import AppCommands
    from turbo.control.panel import CommandInfo
    from turbo.hosting import Client
    from turbo.log_format import LogSetup
    from turbo.master.outcome.hooks import HooksMaker
    from turbo.policy.task_options import TaskOptions
    from turbo.policy.worker_options import WorkerOptions


class NativeApp(HostedApp):
    """One app of turbo's own."""

    has_loader: ClassVar[bool] = False
    stores_results: ClassVar[bool] = True
    broker_errors: ClassVar[tuple[type[Exception], ...]] = (OperationalError,)

    def __init__(self, app: Turbo) -> None:
        self.turbo = app
        self.client: Client = app
        #: What receivers of the worker's signals are given.
        self.worker = Worker(app)
        self.conf = app.conf
        self.main = app.main

    @property
    def added_commands(self) -> Mapping[str, CommandInfo]:
        """Those of ``turbo.worker.control``."""
        return Panel.meta

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The app's tasks by name."""
        return self.turbo.tasks

    def take_preload_options(self, options: Mapping[str, Any]) -> None:
        """Send ``user_preload_options``."""
        signals.user_preload_options.send(sender=self.turbo, app=self.turbo, options=dict(options))

    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """Send ``celeryd_init``, whose receivers may still change the configuration."""
        self.worker.name_worker(hostname, given)

    def import_for_beat(self) -> None:
        """Import the same modules as a worker."""
        self.turbo.import_modules()

    def import_modules(self) -> None:
        """Import the modules of ``imports``, ``include``, ``autodiscover_tasks``."""
        self.turbo.import_modules()

    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """Set logging up, unless a receiver of ``setup_logging`` does. May raise OSError."""
        self.worker.set_up_logging(setup, hostname)

    def finalize(self) -> None:
        """Make every task that was declared."""
        self.turbo.finalize()

    def unsupported_features(self) -> list[str]:
        """One line for each part, signal, entry or bootstep without effect here.

        Raises ImproperlyConfigured.
        """
        return [*unsupported.unsupported_features(self.turbo), *steps.idle(self.turbo)]

    def prepare(self, options: WorkerOptions) -> None:
        """Send ``worker_init`` and ``celeryd_after_setup``.

        Their receivers may still change the queues.
        """
        self.worker.prepare(options)

    def banner_stream(self) -> TextIO | None:
        """Standard output, which is redirected later."""
        return sys.stdout

    def redirecting(self, level: int | None) -> AbstractContextManager[None]:
        """Redirect what receivers of the worker's signals print into the log."""
        return redirected(level)

    def worker_queues(self, options: WorkerOptions) -> list[Queue]:
        """The queues of the configuration, by ``-Q`` and ``-X``.

        Raises ImproperlyConfigured.
        """
        queues = self.turbo.worker_queues(options.queues or None, options.exclude_queues or None)
        return [*queues, direct_queue(options.hostname)] if self.conf["worker_direct"] else queues

    def task_options(self) -> dict[str, TaskOptions]:
        """The options of every task."""
        return self.turbo.task_options()

    def result_store(self) -> tuple[str | None, StoreSettings]:
        """The store of ``result_backend``, for every result."""
        return self.conf["result_backend"], store_settings(self.conf)

    def hooks(self, options: WorkerOptions) -> HooksMaker:
        """Those that call the app's handlers and receivers."""
        hooks = importlib.import_module("turbo.native.hooks").NativeHooks
        return partial(hooks, self.turbo, options, self.worker)

    def executor(self, options: ChildOptions) -> ExecutorMaker:
        """What runs the app's tasks in a child."""
        return native(self.turbo, options)

    def commands(self, options: WorkerOptions) -> AppCommands:
        """Those about the app's tasks and settings, and those that the program has added."""
        commands = importlib.import_module("turbo.native.commands").NativeCommands
        found: AppCommands = commands(self.turbo, options.hostname, self.worker.consumer)
        return found

    def celery_client(self) -> Any:
        """What Celery's own command line sees of the app."""
        return celery_view(self.turbo)

    def run_beat(self, options: BeatOptions, stop: StopRequest) -> None:
        """Send the entries of ``beat_schedule`` by turbo's own beat."""
        importlib.import_module("turbo.native.beat").run_beat(self.turbo, options, stop)

    def freeze(self) -> None:
        """Refuse every change of a setting from now on."""
        self.conf.freeze()
