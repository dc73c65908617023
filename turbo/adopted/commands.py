"""Remote control commands of Celery apps.

Celery's own code answers those about its app; the app has registered others.

Runs on remote control's thread in the master, for ``control.service``. It must never call Celery's commands about the
worker (running tasks, revoked ids, queues, the pool): they would describe a Celery worker, and there is none.
"""

from __future__ import annotations

import functools
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from celery.worker import control

from turbo import __version__
from turbo.app.publish.queues import queue_from
from turbo.control.object_graph import draw
from turbo.control.report import build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery import Celery

    from turbo.adopted.facade import AdoptedConsumer
    from turbo.amqp.topology import Queue
    from turbo.control.app_commands import Command
    from turbo.policy.task_options import TaskOptions

logger = logging.getLogger("celery.worker.control")

#: Celery's commands that read only the app and this process.
_ABOUT_THE_APP: Final = frozenset({"registered", "dump_tasks", "conf", "dump_conf", "report", "memsample", "memdump"})
#: The options that Celery's tasks have too.
_OF_CELERYS_TASKS: Final = frozenset(
    {
        "acks_late", "acks_on_failure", "acks_on_timeout", "reject_on_worker_lost", "ignore_result",
        "store_errors_even_if_ignored", "time_limit", "soft_time_limit", "rate_limit", "send_events",
    }
)  # fmt: skip


class AdoptedCommands:
    """The commands of a ``celery.Celery`` app."""

    def __init__(self, app: Celery, consumer: AdoptedConsumer, hostname: str) -> None:
        #: The first argument that Celery passes to commands.
        self._state = SimpleNamespace(app=app, hostname=hostname, consumer=consumer, tset=functools.partial(set))

    def find(self, method: str) -> Command | None:
        """Return a command about the app, or one that is not Celery's.

        None for all others.
        """
        if method == "objgraph":
            return draw
        command = control.Panel.data.get(method)
        if command is None or (command.__module__ == control.__name__ and method not in _ABOUT_THE_APP):
            return None

        def call(**arguments: Any) -> Any:
            reply = command(self._state, **arguments)
            if method == "report" and isinstance(reply, dict):
                # Celery's text names Celery alone.
                reply = {name: f"turbo {__version__}\nbuild {build()}\n{text}" for name, text in reply.items()}
            return reply

        return call

    def limited(self, task_name: str, attributes: Mapping[str, Any]) -> None:
        """Set the attributes as Celery's own commands do.

        ``registered`` and the app's commands read them.
        """
        for name, value in attributes.items():
            setattr(self._state.app.tasks[task_name], name, value)

    def tasks_changed(self, tasks: Mapping[str, TaskOptions]) -> None:
        """Set the attributes of known tasks, and add the others without their code.

        Requests and ``registered`` read them.
        """
        app = self._state.app
        for name, options in tasks.items():
            attributes = {key: value for key, value in options.attributes().items() if key in _OF_CELERYS_TASKS}
            if name in app.tasks:
                self.limited(name, attributes)
            else:
                app.task(name=name, shared=False, lazy=False, **attributes)(_elsewhere)

    def queue_to_add(self, name: str, options: dict[str, Any]) -> Queue:
        """A queue that the app knows, or one that Celery's own code makes.

        The app then selects it.
        """
        queues = self._state.app.amqp.queues
        return queue_from(queues.select_add(queues[name]) if name in queues else queues.select_add(name, **options))

    def queue_cancelled(self, name: str) -> None:
        """Deselect it in the app's queues."""
        self._state.app.amqp.queues.deselect(name)

    def revoked(self, task_ids: Sequence[str]) -> None:
        """Have the installed Celery mark these as revoked in the result backend.

        Its own worker does so since 5.6. It also adds them to Celery's own set of revoked ids, which turbo does not
        read.
        """
        if task_ids:
            # Celery sees no running task here, so it terminates none. With terminate it also logs nothing: turbo has
            # logged.
            control._revoke(self._state, set(task_ids), terminate=True)


def _elsewhere(*_args: Any, **_kwargs: Any) -> None:
    """Stand for a task that only the children have imported."""
    raise NotImplementedError("the main process has not imported this task")
