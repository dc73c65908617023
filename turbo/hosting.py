"""``HostedApp``: the interface between the worker and an app of either library.

``cli`` finds the app, wraps it and passes it to ``worker``; both use only :class:`HostedApp`. ``native`` implements it
for ``turbo.Turbo``, ``adopted`` for ``celery.Celery``; the latter is imported only for such an app. ``hooks`` and
``commands`` are called in the master, and import what only the master uses. All other methods are called in the
command, before anything is forked. This module must never import an app's library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import TextIO

    from turbo.amqp.topology import Queue
    from turbo.app.conf.conf import Settings
    from turbo.backends.store import StoreSettings
    from turbo.beat.options import BeatOptions
    from turbo.beat.stop_request import StopRequest
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.control.app_commands import AppCommands
    from turbo.control.panel import CommandInfo
    from turbo.log_format import LogSetup
    from turbo.master.outcome.hooks import HooksMaker
    from turbo.policy.task_options import TaskOptions
    from turbo.policy.worker_options import WorkerOptions


class Client(Protocol):
    """An app of either library, as the commands that ask workers use it.

    Both have these under Celery's names.
    """

    @property
    def amqp(self) -> Any:
        """The queues that the app knows."""

    @property
    def control(self) -> Any:
        """Remote control."""

    @property
    def user_options(self) -> Any:
        """The options that the app adds to commands, by the command's name."""

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send a message for the task ``name``; return its handle."""

    def AsyncResult(self, task_id: str) -> Any:
        """Return the handle of the call ``task_id``."""


class HostedApp(ABC):
    """An app that a worker runs."""

    #: Whether apps of this library have a loader, which ``--loader`` selects.
    has_loader: ClassVar[bool]
    #: Whether turbo stores the results. Otherwise the app's library stores them, in the children and in the master's
    #: hooks, except those that it leaves to the master (:meth:`result_store`).
    stores_results: ClassVar[bool]
    #: The name of the app itself, if it has one.
    main: str | None
    #: The app's configuration under turbo's names; changes are also made in the app.
    conf: Settings
    #: The app itself.
    client: Client
    #: What :attr:`client` raises if the broker cannot be reached.
    broker_errors: ClassVar[tuple[type[Exception], ...]]

    @property
    @abstractmethod
    def added_commands(self) -> Mapping[str, CommandInfo]:
        """The commands that programs have added, by name, as command lines show them."""

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Any]:
        """The app's tasks by name."""

    # -- the start, in the order of the calls ------------------------------------------------------------

    @abstractmethod
    def take_preload_options(self, options: Mapping[str, Any]) -> None:
        """Send ``user_preload_options`` with the values of the app's options.

        These are the options that it adds to all commands.
        """

    @abstractmethod
    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """Tell the app the worker's node name.

        The first call of all but that about the app's own options. ``given``: the command line's options.
        """

    @abstractmethod
    def import_modules(self) -> None:
        """Import the task modules that the configuration names."""

    @abstractmethod
    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """Set up logging as the app's library does."""

    @abstractmethod
    def finalize(self) -> None:
        """Create every declared task."""

    @abstractmethod
    def unsupported_features(self) -> list[str]:
        """Return a warning for each feature that turbo does not support.

        Settings have warnings of their own. Raises ImproperlyConfigured for tasks that this worker cannot run
        correctly.
        """

    @abstractmethod
    def prepare(self, options: WorkerOptions) -> None:
        """Prepare the app for the worker: all options are final.

        The last call in which queues may change.
        """

    @abstractmethod
    def banner_stream(self) -> TextIO | None:
        """Return the stream for the worker's banner, or None."""

    @abstractmethod
    def redirecting(self, level: int | None) -> AbstractContextManager[None]:
        """Return the worker's context: what code prints in the master is logged.

        ``level`` is the level of the log records; None: nothing is redirected.
        """

    # -- options and collaborators of the worker's processes ---------------------------------------------

    @abstractmethod
    def worker_queues(self, options: WorkerOptions) -> list[Queue]:
        """Return the queues to consume from, with ``worker_direct``'s if set.

        Raises ImproperlyConfigured for an unknown queue if ``task_create_missing_queues`` is off.
        """

    @abstractmethod
    def task_options(self) -> dict[str, TaskOptions]:
        """Return, by task name, the options on which settling and time limits depend."""

    @abstractmethod
    def result_store(self) -> tuple[str | None, StoreSettings]:
        """Return URL and settings of the store that the master writes to.

        URL None: it writes to none.
        """

    @abstractmethod
    def hooks(self, options: WorkerOptions) -> HooksMaker:
        """Return the maker of the hooks that decide about unreported tasks.

        Called in the master, where they decide.
        """

    @abstractmethod
    def executor(self, options: ChildOptions) -> ExecutorMaker:
        """Return the function that makes the executor of the app's tasks in a child."""

    @abstractmethod
    def commands(self, options: WorkerOptions) -> AppCommands:
        """Return the remote control commands that depend on the app.

        Called in the master.
        """

    @abstractmethod
    def import_for_beat(self) -> None:
        """Import the app's modules in a process that is no worker.

        Logging is set up afterwards.
        """

    @abstractmethod
    def celery_client(self) -> Any:
        """Return an app of Celery's class, for Celery's own monitors.

        Celery must be installed.
        """

    @abstractmethod
    def run_beat(self, options: BeatOptions, stop: StopRequest) -> None:
        """Send the app's periodic tasks until beat is asked to end.

        Nothing else runs in this process. Raises ImproperlyConfigured for a schedule that cannot be used.
        """

    @abstractmethod
    def freeze(self) -> None:
        """Freeze the settings.

        Called when the worker has read all of them, so that changes would have no effect.
        """
