"""What a worker needs of an app, whichever library's it is: the seam between the worker and the app.

``cli`` finds the app, wraps it and hands it to ``worker``; both know nothing but :class:`HostedApp`. ``native``
implements it for ``turbo.Turbo``, ``adopted`` for ``celery.Celery``; the latter is imported only when there is such an
app. All methods are called in the command, before anything is forked. This module must never import an app's library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import TextIO

    from turbo.amqp.topology import Queue
    from turbo.app.conf.conf import Settings
    from turbo.backends.store import StoreSettings
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.control.app_commands import AppCommands
    from turbo.log_format import LogSetup
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.policy.task_options import TaskOptions
    from turbo.policy.worker_options import WorkerOptions


class HostedApp(ABC):
    """An app that a worker runs."""

    #: Apps of this library have a loader, which ``--loader`` chooses.
    has_loader: ClassVar[bool]
    #: turbo stores the results. Otherwise the app's library does, in the children and in the master's hooks, but for
    #: those that it leaves to the master (:meth:`result_store`).
    stores_results: ClassVar[bool]
    #: The app's configuration under turbo's names; what is set here is set in the app as well.
    conf: Settings

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Any]:
        """The app's tasks by name."""

    # -- the start, in the order of the calls ------------------------------------------------------------

    @abstractmethod
    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """The worker has a name: the first thing that an app hears of it. ``given``: the command line's options."""

    @abstractmethod
    def import_modules(self) -> None:
        """Import what the configuration says holds tasks."""

    @abstractmethod
    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """Set logging up as the app's library does."""

    @abstractmethod
    def finalize(self) -> None:
        """Make every task that was declared."""

    @abstractmethod
    def unsupported_features(self) -> list[str]:
        """One warning for each thing, beyond the settings, that the app has and that has no effect in this worker.

        Raises ImproperlyConfigured for tasks that must not run here.
        """

    @abstractmethod
    def prepare(self, options: WorkerOptions) -> None:
        """Everything is decided and nothing is forked: the last moment at which queues may change."""

    @abstractmethod
    def banner_stream(self) -> TextIO | None:
        """The stream on which the worker says hello; None: there is none."""

    @abstractmethod
    def redirecting(self, level: int | None) -> AbstractContextManager[None]:
        """Within this context the worker runs, and what code of the app's prints in the master is logged.

        ``level`` is that of the log records; None: nothing is redirected.
        """

    # -- what the processes of the worker are told -------------------------------------------------------

    @abstractmethod
    def worker_queues(self, options: WorkerOptions) -> list[Queue]:
        """The queues to consume from, with the worker's own one where ``worker_direct`` is set.

        Raises ImproperlyConfigured for a queue that is chosen and may not be made up.
        """

    @abstractmethod
    def task_options(self) -> dict[str, TaskOptions]:
        """What settling and limiting each task depends on."""

    @abstractmethod
    def result_store(self) -> tuple[str | None, StoreSettings]:
        """The URL and the settings of the store to which the master writes; None: the master writes to none."""

    @abstractmethod
    def hooks(self, options: WorkerOptions) -> OutcomeHooks:
        """Who decides, in the master, about tasks that did not live to report."""

    @abstractmethod
    def executor(self, options: ChildOptions) -> ExecutorMaker:
        """What runs the app's tasks in a child."""

    @abstractmethod
    def commands(self, options: WorkerOptions) -> AppCommands:
        """The commands of remote control that only the app can answer."""

    @abstractmethod
    def freeze(self) -> None:
        """The worker has read all that it needs: settings that change from now on would change nothing."""
