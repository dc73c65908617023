"""Remote control commands that Celery's own code answers about its app, and those that the app has registered.

Runs on a thread of remote control's in the master, for ``control.service``. Celery's commands about the worker (what
runs, what is revoked, queues, the pool) are never called: they would describe a worker of Celery's, which there is not.
"""

from __future__ import annotations

import functools
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from celery.worker import control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.adopted.app import AdoptedApp
    from turbo.control.app_commands import Command

logger = logging.getLogger("celery.worker.control")

#: Commands of Celery's that look at nothing but the app and this process.
_ABOUT_THE_APP: Final = frozenset(
    {"registered", "dump_tasks", "conf", "dump_conf", "report", "memsample", "memdump", "objgraph"}
)


class AdoptedCommands:
    """The commands of a ``celery.Celery`` app."""

    def __init__(self, app: AdoptedApp, hostname: str) -> None:
        #: What Celery gives to commands as their first argument.
        self._state = SimpleNamespace(
            app=app.celery, hostname=hostname, consumer=app.worker.consumer, tset=functools.partial(set)
        )

    def find(self, method: str) -> Command | None:
        """One about the app, or one that is not Celery's."""
        command = control.Panel.data.get(method)
        if command is None or (command.__module__ == control.__name__ and method not in _ABOUT_THE_APP):
            return None

        def call(**arguments: Any) -> Any:
            return command(self._state, **arguments)

        return call

    def revoked(self, task_ids: Sequence[str]) -> None:
        """Let the installed Celery mark these in the result backend, as its worker does since 5.6.

        Its own set of revoked ids, of which it takes note as well, is of no use to anybody here.
        """
        if task_ids:
            # To Celery no task runs here, so that there is none to terminate; and what it would log is logged already.
            control._revoke(self._state, set(task_ids), terminate=True)
