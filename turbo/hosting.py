"""What a worker needs of an app that is not turbo's own: the seam behind which another library's app lives.

``cli`` finds the app and hands it to ``worker``; turbo's own ``Turbo`` is known to both, any other comes as a
:class:`HostedApp`. ``adopted`` implements it for ``celery.Celery``, and is imported only when there is such an app.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """An app of another library, run as it is."""

    #: The app's configuration under turbo's names; what is set here is set in the app as well.
    conf: Settings

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Any]:
        """The app's tasks by name."""

    @abstractmethod
    def name_worker(self, hostname: str, given: Mapping[str, Any]) -> None:
        """The worker has a name: the first thing that an app hears of it. ``given``: the command line's options."""

    @abstractmethod
    def import_modules(self) -> None:
        """Import what the configuration says holds tasks."""

    @abstractmethod
    def finalize(self) -> None:
        """Make every task that was declared."""

    @abstractmethod
    def set_up_logging(self, setup: LogSetup, hostname: str) -> None:
        """Set logging up as the app's library does."""

    @abstractmethod
    def prepare(self, options: WorkerOptions) -> None:
        """Everything is decided and nothing is forked: the last moment at which queues may change."""

    @abstractmethod
    def worker_queues(self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None) -> list[Queue]:
        """The queues to consume from."""

    @abstractmethod
    def task_options(self) -> dict[str, TaskOptions]:
        """What settling and limiting each task depends on."""

    @abstractmethod
    def result_store(self) -> tuple[str | None, StoreSettings]:
        """The URL and the settings of the store to which the master writes what children leave to it.

        None: nowhere; the app's library stores every result itself.
        """

    @abstractmethod
    def executor(self, options: ChildOptions) -> ExecutorMaker:
        """What runs the app's tasks in a child."""

    @abstractmethod
    def hooks(self, options: WorkerOptions) -> OutcomeHooks:
        """Who decides, in the master, about tasks that did not live to report."""

    @abstractmethod
    def commands(self, options: WorkerOptions) -> AppCommands:
        """The commands of remote control that only the app can answer."""
