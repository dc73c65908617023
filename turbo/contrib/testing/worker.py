"""``start_worker``: a real worker for a test, with the process's own tasks.

The worker is a fork of the process that runs the tests; the command ``turbo worker`` then runs in it with the given
app. Master, spawner and children are those of any other worker. It ends with the block, or when the tests' process is
gone. It must never return into the tests' code.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import sys
import tempfile
import warnings
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.app.worker_arguments import command_line
from turbo.cli.main import run
from turbo.fixups.django import drop_inherited
from turbo.signals import Signal
from turbo.spawner.forking import fork
from turbo.spawner.kernel import arm_lifeline

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER_LOGLEVEL: Final = os.environ.get("WORKER_LOGLEVEL", "error")
#: Seconds to wait for a killed worker.
_KILLED_SECONDS: Final = 10.0
#: What is run if the worker asks to be started anew: that would start the tests.
_NO_RESTART: Final = "raise SystemExit('the worker of a test is not restarted')"

#: The sender of all three is the app.
test_worker_starting = Signal([], name="test_worker_starting")
test_worker_started = Signal(["worker"], name="test_worker_started")
test_worker_stopped = Signal(["worker"], name="test_worker_stopped")

_numbers = count(1)


class TestWorkController:
    """A worker in a process of its own.

    Its processes write into one file, which is shown when it has ended.
    """

    __test__ = False

    def __init__(self, app: Any, start_timeout: float, shutdown_timeout: float, **options: Any) -> None:
        self.app = app
        self.hostname: str = options["hostname"]
        #: The master's process id; None while it does not run.
        self.pid: int | None = None
        self._options = options
        self._start_timeout = start_timeout
        self._shutdown_timeout = shutdown_timeout
        self._pidfd = -1
        self._lifeline = -1

    def start(self) -> None:
        """Start the worker and wait until it consumes. Raises RuntimeError if it does not."""
        self._output = tempfile.TemporaryFile()
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        ready, tell = os.pipe2(os.O_CLOEXEC)

        def body() -> None:
            os.close(self._lifeline)
            _run_worker(self.app, command_line(self._options), lifeline, tell, self._output.fileno())

        with warnings.catch_warnings():
            # Later versions of Python warn of forking beside threads; the worker uses none of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = fork(body)
        os.close(lifeline)
        os.close(tell)
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        readable, _, _ = select.select([ready, self._pidfd], [], [], self._start_timeout)
        started = ready in readable and os.read(ready, 1) != b""
        os.close(ready)
        if not started:
            self._end(kill=True)
            why = "ended" if readable else f"did not consume within {self._start_timeout:g} s"
            raise RuntimeError(f"the worker {self.hostname} {why}. It wrote:\n{self._written()}")

    def stop(self) -> None:
        """Ask the worker to end and wait for it.

        Raises RuntimeError, and kills it, after the timeout.
        """
        if self.pid is None:
            return
        os.kill(self.pid, signal.SIGTERM)
        ended = self._has_ended(self._shutdown_timeout)
        self._end(kill=not ended)
        sys.stderr.write(self._written())
        if not ended:
            raise RuntimeError(
                f"the worker {self.hostname} did not end within {self._shutdown_timeout:g} s and was killed; "
                "raise shutdown_timeout if its tasks take longer"
            )

    def reload(self) -> None:
        """Stop the worker and start it again, with the tasks that the app has now."""
        self.stop()
        self.start()

    def ensure_started(self) -> None:
        """Raise RuntimeError unless the worker runs."""
        if self.pid is None or self._has_ended(0):
            raise RuntimeError(f"the worker {self.hostname} does not run")

    def _has_ended(self, timeout: float) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def _end(self, *, kill: bool) -> None:
        """Reap the master; a killed one's other processes end by themselves."""
        assert self.pid is not None
        if kill:
            os.kill(self.pid, signal.SIGKILL)
            self._has_ended(_KILLED_SECONDS)
        os.waitpid(self.pid, 0)
        self.pid = None
        os.close(self._pidfd)
        os.close(self._lifeline)

    def _written(self) -> str:
        with self._output as file:
            file.seek(0)
            return file.read().decode(errors="replace")


def _run_worker(app: Any, arguments: list[str], lifeline: int, tell: int, output: int) -> None:
    """Run the worker in a fork of the tests' process.

    Write a byte to ``tell`` when it consumes.
    """
    os.setsid()
    for number in (1, 2):
        os.dup2(output, number)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    sys.orig_argv = [sys.executable, "-c", _NO_RESTART]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    arm_lifeline(lifeline, os.getpid(), signal.SIGTERM)
    inherited = drop_inherited()
    library = type(app).__module__.partition(".")[0]
    for module in (importlib.import_module(f"{name}.signals") for name in {"turbo", library} if name in sys.modules):
        if hasattr(module, "worker_ready"):
            module.worker_ready.connect(lambda **_: os.write(tell, b"1"), weak=False)
    try:
        run(app, arguments, quiet=True)
    except click.ClickException as error:
        error.show()
    del inherited


@contextmanager
def start_worker(
    app: Any,
    concurrency: int = 1,
    pool: str = "prefork",
    loglevel: str | int = WORKER_LOGLEVEL,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 30.0,
    shutdown_timeout: float = 30.0,
    **kwargs: Any,
) -> Iterator[TestWorkController]:
    """Run a worker of ``app``, which may be Celery's, for the block's length.

    The worker has the tasks that ``app`` has when it starts; ``reload`` of the yielded object takes later ones.
    ``kwargs`` are options of ``turbo worker``, such as ``queues=["mail"]``. The block begins when the worker consumes;
    ``ping_task_timeout`` is the number of seconds to wait for that, and ``perform_ping_check`` has no effect. Makes
    ``app`` the current app. Raises RuntimeError if the worker does not start, or does not end in ``shutdown_timeout``
    seconds.
    """
    test_worker_starting.send(sender=app)
    app.finalize()
    app.set_current()
    app.set_default()
    options = {"hostname": f"test{next(_numbers)}-{os.getpid()}@{socket.gethostname()}", **kwargs}
    options |= {"concurrency": concurrency, "pool": pool, "loglevel": loglevel, "logfile": logfile}
    worker = TestWorkController(app, ping_task_timeout, shutdown_timeout, **options)
    try:
        worker.start()
        test_worker_started.send(sender=app, worker=worker)
        try:
            yield worker
        finally:
            worker.stop()
    finally:
        test_worker_stopped.send(sender=app, worker=worker)
