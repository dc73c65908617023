"""A ``celery.Celery`` as a worker's app, for the command and the wiring.

Celery's own code gives the answers.

Made by ``cli.app_option`` around the app that it found. It gives the children their executor before the fork, and the
master its hooks and commands after it: their modules are imported there, so that no child has them in its memory. It
must never change what Celery's own code would do with the app: configuration is written through, queues are Celery's
own, and Celery finalizes the tasks.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery import signals
from celery.app import trace
from celery.exceptions import ImproperlyConfigured as CeleryImproperlyConfigured
from celery.utils.nodenames import worker_direct
from celery.worker.control import Panel
from kombu.exceptions import OperationalError as KombuOperationalError

from turbo.adopted import logs
from turbo.adopted.batches import batch_of
from turbo.adopted.executor import adopted
from turbo.adopted.facade import AdoptedWorker
from turbo.adopted.handed_backends import can_be_handed
from turbo.adopted.settings import AdoptedSettings
from turbo.amqp.url import parse_broker_urls
from turbo.app.publish.queues import queue_from
from turbo.backends.open_store import store_settings
from turbo.control.panel import CommandInfo
from turbo.exceptions import ImproperlyConfigured
from turbo.hosting import HostedApp
from turbo.policy.task_options import TaskOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import TextIO

    from celery import Celery

    from turbo.amqp.topology import Queue
    from turbo.backends.store import StoreSettings
    from turbo.beat.options import BeatOptions
    from turbo.beat.stop_request import StopRequest
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.control.app_commands import AppCommands
    from turbo.hosting import Client
    from turbo.log_format import LogSetup
    from turbo.master.outcome.hooks import HooksMaker
    from turbo.policy.worker_options import WorkerOptions


class AdoptedApp(HostedApp):
    """One Celery app as the app of a worker."""

    has_loader: ClassVar[bool] = True
    stores_results: ClassVar[bool] = False
    broker_errors: ClassVar[tuple[type[Exception], ...]] = (KombuOperationalError, OSError)

    def __init__(self, app: Celery) -> None:
        self.celery = app
        self.client: Client = app
        self.worker = AdoptedWorker(app)
        self.conf = AdoptedSettings(app)
        self.main: str | None = app.main
        #: Children leave results to the master where no one can observe the difference.
        self.hands_results = False

    @property
    def added_commands(self) -> Mapping[str, CommandInfo]:
        """Celery's own, and those that programs have added to them."""
        return {name: CommandInfo(*info[: len(CommandInfo._fields)]) for name, info in Panel.meta.items()}

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The app's tasks by name."""
        tasks: Mapping[str, Any] = self.celery.tasks
        return tasks

    def take_preload_options(self, options: Mapping[str, Any]) -> None:
        """Send ``user_preload_options``."""
        signals.user_preload_options.send(sender=self.celery, app=self.celery, options=dict(options))

    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """Import the app's modules and send ``celeryd_init``.

        Its receivers may still change the configuration. Raises ImproperlyConfigured for a broker that is not AMQP.
        """
        self.worker.hostname = hostname
        excuse_libraries()
        self.celery.loader.init_worker()
        trace.setup_worker_optimizations(self.celery, hostname)
        self.worker.announce_init(given)
        self.conf.read_again()
        try:
            parse_broker_urls(self.conf["broker_read_url"])
        except ValueError as error:
            raise ImproperlyConfigured(str(error)) from error

    def import_for_beat(self) -> None:
        """Import the app's modules as ``celery beat`` does."""
        excuse_libraries()
        self.celery.loader.init_worker()
        self.conf.read_again()

    def import_modules(self) -> None:
        """Import ``-I`` modules.

        :meth:`name_worker` has imported those of the configuration.
        """
        for module in self.conf["include"] or ():
            self.celery.loader.import_task_module(module)

    def finalize(self) -> None:
        """Create every declared task."""
        self.celery.finalize()

    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """Set logging up as ``celery worker`` does.

        That sends the signals by which an app can replace it.
        """
        logs.set_up(self.celery, setup, hostname)

    def unsupported_features(self) -> list[str]:
        """Return nothing: the warning of the settings names the rest too."""
        return []

    def prepare(self, options: WorkerOptions) -> None:
        """Choose the queues, then send ``worker_init`` and ``celeryd_after_setup``.

        Their receivers may change the queues.
        """
        queues = self.celery.amqp.queues
        try:
            queues.select(list(options.queues))
            queues.deselect(list(options.exclude_queues))
        except KeyError as error:
            raise ImproperlyConfigured(
                f"cannot consume from a queue that is not in task_queues: {error}; "
                "add it there or turn task_create_missing_queues on"
            ) from error
        if self.celery.conf.worker_direct:
            queues.select_add(worker_direct(options.hostname))
        self.worker.announce_setup(options)

    def banner_stream(self) -> TextIO | None:
        """Return the process's own standard output.

        The app's logging may have redirected ``sys.stdout`` by now.
        """
        return sys.__stdout__

    def redirecting(self, level: int | None) -> AbstractContextManager[None]:
        """Redirect nothing: Celery's logging has done that, if the app wants it."""
        return contextlib.nullcontext()

    def worker_queues(self, options: WorkerOptions) -> list[Queue]:
        """Return the queues that Celery would consume from; ``prepare`` has selected them."""
        return [queue_from(queue) for queue in self.celery.amqp.queues.consume_from.values()]

    def task_options(self) -> dict[str, TaskOptions]:
        """Return the options of every task, with the defaults of Celery's configuration."""
        return {name: options_of(task) for name, task in self.celery.tasks.items()}

    def result_store(self) -> tuple[str | None, StoreSettings]:
        """Return where the master stores results for the children.

        Celery stores everything else. Raises ImproperlyConfigured for a backend that Celery does not know or cannot
        load.
        """
        settings = store_settings(self.conf)
        try:
            url = can_be_handed(self.celery)
        except (CeleryImproperlyConfigured, ImportError) as error:
            raise ImproperlyConfigured(f"the result backend cannot be used: {error}") from error
        if url is None:
            return None, settings
        self.hands_results = True
        backend = self.celery.backend
        return url, replace(settings, expires=backend.expires, persistent=bool(backend.persistent))

    def executor(self, options: ChildOptions) -> ExecutorMaker:
        """Return what runs this app's tasks in a child. Called after :meth:`result_store`."""
        return adopted(self.celery, options, self.task_options, hands_results=self.hands_results)

    def hooks(self, options: WorkerOptions) -> HooksMaker:
        """Return the outcome hooks, which use Celery's requests in the master."""
        hooks = importlib.import_module("turbo.adopted.hooks").AdoptedHooks
        return partial(hooks, self.celery, self.worker, options)

    def commands(self, options: WorkerOptions) -> AppCommands:
        """Return Celery's own commands about the app and those that the app has added."""
        commands = importlib.import_module("turbo.adopted.commands").AdoptedCommands
        found: AppCommands = commands(self.celery, self.worker.consumer, options.hostname)
        return found

    def celery_client(self) -> Any:
        """The app itself."""
        return self.celery

    def run_beat(self, options: BeatOptions, stop: StopRequest) -> None:
        """Send the app's periodic tasks by Celery's own beat."""
        turn = importlib.import_module("turbo.beat.election").turn_of(self.conf, options, stop)
        importlib.import_module("turbo.adopted.beat").run_beat(self.celery, options, stop, turn)

    def freeze(self) -> None:
        """Do nothing: Celery lets an app's settings change at any time."""


def excuse_libraries() -> None:
    """Ignore deprecation warnings in Celery and its libraries.

    ``PYTHONWARNINGS=error`` turns them into errors. The master too stores by Celery's code, whose call of redis-py's
    ``setex`` is deprecated: such an error would lose the result. Warnings in the app's own code are not touched.
    """
    for kind in (DeprecationWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=kind, module=r"(celery|kombu|billiard|vine|amqp|redis)\b")


def options_of(task: Any) -> TaskOptions:
    """Return a Celery task's options in turbo's form."""
    either = task.acks_on_failure_or_timeout
    return TaskOptions(
        name=task.name,
        acks_late=bool(task.acks_late),
        acks_on_failure=bool(getattr(task, "acks_on_failure", either)),
        acks_on_timeout=bool(getattr(task, "acks_on_timeout", either)),
        reject_on_worker_lost=bool(task.reject_on_worker_lost),
        ignore_result=bool(task.ignore_result),
        store_errors_even_if_ignored=bool(task.store_errors_even_if_ignored),
        time_limit=task.time_limit,
        soft_time_limit=task.soft_time_limit,
        rate_limit=task.rate_limit,
        send_events=bool(task.send_events),
        batch=batch_of(task),
    )
