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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery import Celery

    from turbo.adopted.facade import AdoptedConsumer
    from turbo.amqp.topology import Queue
    from turbo.control.app_commands import Command

logger = logging.getLogger("celery.worker.control")

#: Celery's commands that read only the app and this process.
_ABOUT_THE_APP: Final = frozenset({"registered", "dump_tasks", "conf", "dump_conf", "report", "memsample", "memdump"})


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
                reply = {name: f"turbo {__version__}\n{text}" for name, text in reply.items()}
            return reply

        return call

    def limited(self, task_name: str, attributes: Mapping[str, Any]) -> None:
        """Set the attributes as Celery's own commands do.

        ``registered`` and the app's commands read them.
        """
        for name, value in attributes.items():
            setattr(self._state.app.tasks[task_name], name, value)

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
