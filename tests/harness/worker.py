"""A real `turbo worker` (or any other worker command) as a subprocess of a test."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from tests.harness.processes import PATIENCE, HarnessError, end, family, spawn

_ROOT = Path(__file__).resolve().parents[2]
#: Seconds in which the rest of an output is read, after its process has ended; another may keep it open.
_LAST_LINES = 10.0
TURBO = (sys.executable, "-m", "turbo", "worker")


class WorkerProcess:
    """Runs `python -m turbo worker ARGUMENTS` in `directory`; use it as a context manager.

    Standard output and error are collected as lines. Whoever looks at them first takes what is in the pipe, so that
    nothing is missing that was printed before. The repository's root is first on PYTHONPATH, so that a tasks module can
    import `tests.harness.oracle_record`; the caller's PYTHONPATH follows, for the same Python only.
    """

    def __init__(
        self,
        *arguments: str,
        directory: Path,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = TURBO,
    ) -> None:
        self.command = [*command, *arguments]
        self.directory = directory
        self._env = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": _paths(command[0]),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._stdout: IO[bytes] | None = None
        self._lines: list[str] = []
        self._begun = b""  # a line whose end has not come
        self._closed = False
        self._more = threading.Condition()
        self._reader: threading.Thread | None = None
        self._known: list[psutil.Process] = []

    def start(self) -> WorkerProcess:
        """Start the process; return at once."""
        process = spawn(
            self.command, env=self._env, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        # Not the process's own any more: `end` closes what is, and the last lines are read after it.
        self._process, self._stdout, process.stdout = process, process.stdout, None
        assert self._stdout is not None
        os.set_blocking(self._stdout.fileno(), False)
        self._reader = threading.Thread(target=self._collect, name="worker-output", daemon=True)
        self._reader.start()
        return self

    def __enter__(self) -> WorkerProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- output ---------------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """Everything that the worker has printed so far."""
        with self._more:
            self._take()
            return "\n".join(self._lines)

    def mark(self) -> int:
        """Return the current position in the output, for `wait_for_line(since=...)`."""
        with self._more:
            self._take()
            return len(self._lines)

    @property
    def ended(self) -> bool:
        """Whether no process is left that could print more."""
        with self._more:
            return self._closed

    def wait_for_line(self, pattern: str, timeout: float = PATIENCE, *, since: int = 0) -> re.Match[str]:
        """Wait for a line that matches (re.search). Raises HarnessError with the output if none comes."""
        regex, position = re.compile(pattern), since
        deadline = time.monotonic() + timeout
        with self._more:
            while True:
                self._take()
                while position < len(self._lines):
                    found = regex.search(self._lines[position])
                    position += 1
                    if found:
                        return found
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    tail = "\n".join(self._lines[-60:])
                    why = "it ended" if self._closed else f"not within {timeout:g} s"
                    raise HarnessError(f"no line like {pattern!r} ({why}); the output ends:\n{tail}")
                self._more.wait(left)

    # -- processes ------------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The started process."""
        if self._process is None:
            raise HarnessError("the worker was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The pid of the command, which is turbo's master."""
        return self.process.pid

    def children(self, pattern: str | None = None) -> list[psutil.Process]:
        """Return all descendants, or those whose command line matches `pattern`."""
        found = family(self.pid)[1:]
        self._known.extend(found)
        return found if pattern is None else [each for each in found if re.search(pattern, _title(each))]

    def pool_pids(self) -> list[int]:
        """Return the pids of the children that run tasks."""
        return [each.pid for each in self.children("ForkPoolWorker")]

    def send_signal(self, number: int) -> None:
        """Send a signal to the master only."""
        self.process.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM, which starts a warm shutdown."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the master only, so that the test can check what it leaves behind."""
        self.children()
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end of the worker; return its exit status (negative: a signal).

        A worker that was not killed has ended its processes before, and its whole output has been read.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HarnessError(f"the worker did not end within {timeout:g} s; output:\n{self.output[-4000:]}") from None
        if status >= 0:
            self._wait_closed(_LAST_LINES)
        return status

    def wait_orphans(self, timeout: float = PATIENCE) -> None:
        """Wait until no process of a killed worker is left. Raises HarnessError."""
        if not self._wait_closed(timeout):
            raise HarnessError(f"a process of the killed worker lives on after {timeout:g} s")

    def close(self) -> None:
        """Kill the worker and every process that it has started. Idempotent."""
        if self._process is None:
            return
        self.children()
        reader, self._reader = self._reader, None
        if reader is None:
            return
        for known in self._known:
            try:
                known.kill()  # psutil checks that the pid is still the same process
            except psutil.NoSuchProcess:
                continue
        end(self._process, gently=None)
        reader.join(PATIENCE)
        with self._more:
            self._closed = True  # also where the pipe is held by a process that is none of the family any more
            self._more.notify_all()
        reader.join(PATIENCE)
        if self._stdout is not None:
            self._stdout.close()

    def _wait_closed(self, timeout: float) -> bool:
        """Wait until nobody can write to the output any more, which all processes of the worker have open."""
        with self._more:
            return self._more.wait_for(lambda: self._closed, timeout)

    def _collect(self) -> None:
        watch = select.poll()
        if self._stdout is not None:
            watch.register(self._stdout, select.POLLIN)
        while not self.ended:
            if watch.poll(1_000):
                with self._more:
                    self._take()

    def _take(self) -> None:
        """Take what is in the pipe. The lock is held: two threads would mix up what they read."""
        if self._stdout is None or self._closed:
            return
        try:
            while data := os.read(self._stdout.fileno(), 65_536):
                *whole, self._begun = (self._begun + data).split(b"\n")
                self._lines += [line.decode(errors="replace") for line in whole]
            self._closed = True
            if self._begun:
                self._lines.append(self._begun.decode(errors="replace"))
        except BlockingIOError:
            pass
        self._more.notify_all()


def _paths(program: str) -> str:
    # The inherited path would put packages of this Python before those of another.
    inherited = os.environ.get("PYTHONPATH") if program == sys.executable else None
    return os.pathsep.join([str(_ROOT), *filter(None, [inherited])])


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
