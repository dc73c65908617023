"""A ``celery.Celery`` as a worker's app: what the command and the wiring ask of it, answered by Celery.

Made by ``cli.app_option`` around the app it found; runs in the command, before anything is forked, and hands the
executor to the children and the hooks to the master. It must never change what Celery's own code would do with the
app: the configuration is written through, queues are Celery's own, and tasks are finalised by Celery.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from celery.app import trace
from celery.exceptions import ImproperlyConfigured as CeleryImproperlyConfigured
from celery.utils.nodenames import worker_direct

from turbo.adopted import logs
from turbo.adopted.commands import AdoptedCommands
from turbo.adopted.executor import adopted
from turbo.adopted.facade import AdoptedWorker
from turbo.adopted.hooks import AdoptedHooks
from turbo.adopted.requests import has_own_class
from turbo.adopted.result_handoff import can_be_handed
from turbo.adopted.settings import AdoptedSettings
from turbo.amqp.url import parse_broker_urls
from turbo.app.publish.queues import queue_from
from turbo.backends.registry import store_settings
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
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.control.app_commands import AppCommands
    from turbo.log_format import LogSetup
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.policy.worker_options import WorkerOptions


class AdoptedApp(HostedApp):
    """One Celery app, adopted."""

    has_loader: ClassVar[bool] = True
    stores_results: ClassVar[bool] = False

    def __init__(self, app: Celery) -> None:
        self.celery = app
        self.worker = AdoptedWorker(app)
        self.conf = AdoptedSettings(app)
        #: Children leave results to the master, where that is the same to all.
        self.hands_results = False

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The app's tasks by name."""
        tasks: Mapping[str, Any] = self.celery.tasks
        return tasks

    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """Import the app's modules and send ``celeryd_init``, whose receivers may still change the configuration.

        Raises ImproperlyConfigured for a broker that is not AMQP.
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

    def import_modules(self) -> None:
        """Import ``-I`` modules; those of the configuration came with :meth:`name_worker`."""
        for module in self.conf["include"] or ():
            self.celery.loader.import_task_module(module)

    def finalize(self) -> None:
        """Make every task that was declared."""
        self.celery.finalize()

    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """As ``celery worker`` does, with the signals that let an app take it over."""
        logs.set_up(self.celery, setup, hostname)

    def left_out(self) -> list[str]:
        """Nothing: the settings' one warning names the rest as well."""
        return []

    def prepare(self, options: WorkerOptions) -> None:
        """Choose the queues, then send ``worker_init`` and ``celeryd_after_setup``, whose receivers may change them."""
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
        """The process's own: by now the app's logging may have redirected ``sys.stdout`` into itself."""
        return sys.__stdout__

    def redirecting(self, level: int | None) -> AbstractContextManager[None]:
        """Nothing more: Celery's logging has redirected what is printed, where the app wants that."""
        return contextlib.nullcontext()

    def worker_queues(self, options: WorkerOptions) -> list[Queue]:
        """The queues that Celery would consume from; ``prepare`` has chosen them."""
        return [queue_from(queue) for queue in self.celery.amqp.queues.consume_from.values()]

    def task_options(self) -> dict[str, TaskOptions]:
        """The options of every task, with Celery's own fall-backs to the configuration."""
        return {name: options_of(task) for name, task in self.celery.tasks.items()}

    def result_store(self) -> tuple[str | None, StoreSettings]:
        """Where the master stores what children leave to it; Celery stores everything else.

        Raises ImproperlyConfigured for a backend that Celery does not know or cannot load.
        """
        settings = store_settings(self.conf)
        try:
            url = can_be_handed(self.celery)
        except (CeleryImproperlyConfigured, ImportError) as error:
            raise ImproperlyConfigured(f"the result backend cannot be used: {error}") from error
        if url is None:
            return None, settings
        self.hands_results = True
        return url, replace(settings, expires=self.celery.backend.expires)

    def executor(self, options: ChildOptions) -> ExecutorMaker:
        """What runs this app's tasks in a child."""
        return adopted(self, options)

    def hooks(self, options: WorkerOptions) -> OutcomeHooks:
        """Celery's requests, in the master."""
        return AdoptedHooks(self, options)

    def commands(self, options: WorkerOptions) -> AppCommands:
        """Celery's own commands about the app, and those that the app has added."""
        return AdoptedCommands(self, options.hostname)

    def freeze(self) -> None:
        """Nothing: Celery lets an app's settings change at any time."""

    def has_own_request(self, task: Any) -> bool:
        """Whether a task's request class is its own, and hears of every end."""
        return has_own_class(task)


def excuse_libraries() -> None:
    """Let no deprecation in Celery's own calls of other libraries be an error, as ``PYTHONWARNINGS=error`` has it.

    The master, too, stores by Celery's code (its call of redis-py's ``setex`` is deprecated), and what it cannot store
    nobody would. Warnings in the app's own code are what the app makes of them.
    """
    for kind in (DeprecationWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=kind, module=r"(celery|kombu|billiard|vine|amqp|redis)\b")


def options_of(task: Any) -> TaskOptions:
    """A Celery task's options as turbo reads them."""
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
    )
