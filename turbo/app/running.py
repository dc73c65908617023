"""``app.worker_main()``, ``app.start()``, ``app.Worker``: start a worker.

``app.bugreport()`` is here too, since it is a command of turbo's as well.
A base class of ``Turbo``. The worker runs in the program's process, which becomes the master: it forks, so the program
must not have threads by then. ``turbo.cli`` and ``turbo.control`` are above this layer, and are
imported by name when one of these is called.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from turbo.app.worker_arguments import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.app.conf.conf import Settings

_COMMAND_LINE: Final = "turbo.cli.main"
_REPORT: Final = "turbo.control.report"


class Running:
    """The methods of an app that run commands of turbo's in the program's own process."""

    conf: Settings

    def start(self, argv: Sequence[object] | None = None) -> int:
        """Run a command of turbo's with this app, such as ``["worker", "-c", 4]``.

        Return its exit code. ``argv`` is by default the program's own command line. Raises click's exceptions for a
        wrong command line.
        """
        code: int = importlib.import_module(_COMMAND_LINE).run(self, sys.argv[1:] if argv is None else argv)
        return code

    def worker_main(self, argv: Sequence[object] | None = None) -> int:
        """:meth:`start` for a command line with ``worker`` in it.

        Raises ValueError for any other.
        """
        argv = sys.argv[1:] if argv is None else argv
        if "worker" not in argv:
            raise ValueError('argv must name the command: worker_main(["worker", "-l", "INFO"])')
        return self.start(argv)

    def bugreport(self) -> str:
        """Return what ``turbo report`` prints: versions, platform and settings."""
        lines: list[str] = importlib.import_module(_REPORT).describe()
        return "\n".join([*lines, "", self.conf.humanize()])

    def Worker(self, **options: Any) -> Worker:
        """Return a worker of this app.

        ``options`` are those of Celery's class, or of ``turbo worker``.
        """
        return Worker(self, **options)


class Worker:
    """One worker in the program's own process."""

    #: The app, which a subclass may have.
    app: Any = None

    def __init__(self, app: Any = None, hostname: str | None = None, **options: Any) -> None:
        """Raises ImproperlyConfigured for an option that turbo's worker cannot take."""
        self.app = app or self.app
        self._argv = command_line({"hostname": hostname, **options})
        self._runs_in: int | None = None
        #: The worker's exit code; None until it has ended.
        self.exitcode: int | None = None

    def start(self) -> None:
        """Run until the worker is stopped.

        Call it in the main thread, since it handles signals.
        """
        self._runs_in = os.getpid()
        try:
            self.exitcode = importlib.import_module(_COMMAND_LINE).run(self.app, self._argv)
        finally:
            self._runs_in = None

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Ask for a warm shutdown, as TERM does.

        A receiver of a signal or another thread may call it. It does not wait, and does nothing unless the worker runs.
        The worker determines its exit code itself, so both arguments, which Celery has, change nothing.
        """
        self._send(signal.SIGTERM)

    def terminate(self, in_sighandler: bool = False) -> None:
        """Ask for a cold shutdown, as QUIT does; otherwise like :meth:`stop`."""
        self._send(signal.SIGQUIT)

    def _send(self, number: signal.Signals) -> None:
        if self._runs_in == os.getpid():
            os.kill(self._runs_in, number)
