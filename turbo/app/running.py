"""``app.worker_main()``, ``app.start()``, ``app.Worker``: start a worker.

A base class of ``Turbo``. The worker runs in the program's process, which becomes the master: it forks, so the program
must not have threads by then. ``turbo.cli`` is above this layer and is imported by name when one of these is called.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMAND_LINE: Final = "turbo.cli.main"
#: Arguments of Celery's Worker that have another name on the command line.
_OPTION_OF: Final = {
    "O": "optimization",
    "pool_cls": "pool",
    "scheduler_cls": "scheduler",
    "schedule_filename": "schedule",
    "state_db": "statedb",
    "task_soft_time_limit": "soft-time-limit",
    "task_time_limit": "time-limit",
}
#: Options that take names with commas between them.
_LISTS: Final = ("queues", "exclude_queues", "include")
#: Options of the whole command.
_GLOBAL: Final = ("no_color", "quiet")


class Running:
    """The methods of an app that run commands of turbo's in the program's own process."""

    def start(self, argv: Sequence[str] | None = None) -> int:
        """Run a command of turbo's with this app, such as ``["worker", "-c", "4"]``.

        Return its exit code. ``argv`` is by default the program's own command line. Raises click's exceptions for a
        wrong command line.
        """
        code: int = importlib.import_module(_COMMAND_LINE).run(self, sys.argv[1:] if argv is None else argv)
        return code

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """:meth:`start` for a command line with ``worker`` in it.

        Raises ValueError for any other.
        """
        argv = sys.argv[1:] if argv is None else argv
        if "worker" not in argv:
            raise ValueError('argv must name the command: worker_main(["worker", "-l", "INFO"])')
        return self.start(argv)

    def Worker(self, **options: Any) -> Worker:
        """Return a worker of this app.

        ``options`` are those of Celery's class, or of ``turbo worker``.
        """
        return Worker(self, options)


class Worker:
    """One worker in the program's own process."""

    def __init__(self, app: Running, options: dict[str, Any]) -> None:
        self._app = app
        self._argv = command_line(options)
        #: The worker's exit code; None until it has ended.
        self.exitcode: int | None = None

    def start(self) -> None:
        """Run until the worker is stopped."""
        self.exitcode = self._app.start(self._argv)


def command_line(options: dict[str, Any]) -> list[str]:
    """Return ``turbo worker``'s command line for keyword arguments.

    None and False mean not given.
    """
    before: list[str] = []
    after: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        words = before if name in _GLOBAL else after
        option = "--" + _OPTION_OF.get(name, name).replace("_", "-")
        if value is True:
            words.append(option)
            continue
        if name in _LISTS and not isinstance(value, str):
            value = ",".join(value)
        elif name == "autoscale" and not isinstance(value, str):
            value = ",".join(map(str, value))
        words += [option, str(value)]
    return [*before, "worker", *after]
