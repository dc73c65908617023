"""The interface for commands that need the app.

They ask for its tasks, its configuration, a report, or run the program's own commands.

Between ``control.service`` and the app, in the master; ``native.commands`` and ``adopted.commands`` implement it. These
commands read the user's objects, so they must never run on the master's loop: a thread beside it calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.amqp.topology import Queue
    from turbo.policy.task_options import TaskOptions

#: Takes the arguments of a request by name; returns the reply.
Command = Callable[..., Any]


class AppCommands(Protocol):
    """The remote control commands that only an app can answer."""

    def find(self, method: str) -> Command | None:
        """Return the command of this name; None if the app has none."""

    def revoked(self, task_ids: Sequence[str]) -> None:
        """Note revoked tasks that neither run nor wait here.

        Called on the thread, before the reply.
        """

    def limited(self, task_name: str, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a known task whose limits have changed.

        Called on the thread, before the reply.
        """

    def queue_to_add(self, name: str, options: dict[str, Any]) -> Queue:
        """Return the app's queue of this name, or make one from the options.

        These are the options of ``add_consumer``. Called on the thread. May raise anything: the options are a
        stranger's.
        """

    def queue_cancelled(self, name: str) -> None:
        """Note that the worker no longer consumes from a queue.

        Called on the thread, before the reply.
        """

    def tasks_changed(self, tasks: Mapping[str, TaskOptions]) -> None:
        """Take up tasks that the children have and this process has not imported.

        Called on the thread. A new task gets its name and options here, without its code: it never runs in this
        process.
        """
