"""A worker under test as a process, and the marks that its tasks leave."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench import meters
from bench.contenders import APPS, Contender
from bench.processes import BenchError, clean_environment, end, kill_family, launch

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


class Marks:
    """The file to which tasks append; ``width`` is how many 64-bit numbers one task appends."""

    def __init__(self, width: int = 1) -> None:
        # in memory where there is such a place, so that no disk is measured
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        descriptor, name = tempfile.mkstemp(prefix="turbo-bench-marks-", dir=place)
        os.close(descriptor)
        self.path = Path(name)
        self.width = width

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink()

    def count(self) -> int:
        """How many tasks have said that they ran."""
        return self.path.stat().st_size // (8 * self.width)

    def read(self) -> list[tuple[int, ...]]:
        """Every record, in the order of their writing."""
        raw = self.path.read_bytes()
        return list(struct.iter_unpack(f"<{self.width}Q", raw))


class Worker:
    """Starts the contender's command; a context manager that ends it, by force if it must."""

    def __init__(self, contender: Contender, env: dict[str, str], marks: Marks, scratch: Path) -> None:
        """``env`` has the ``BENCH_…`` variables; the log goes to a file in ``scratch``."""
        self.contender = contender
        self._env = {**clean_environment(), **env, "BENCH_MARKS": str(marks.path)}
        self._marks = marks
        self._log = scratch / f"{contender.peer}.log"
        self._log.unlink(missing_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._command = contender.command()
        #: When the command was started, in nanoseconds of the monotonic clock.
        self.started = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the command, for the first time or after ``kill``."""
        self.started = time.monotonic_ns()
        self._process = launch(self._command, env=self._env, cwd=APPS, log=self._log)

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started: turbo's and Celery's master."""
        if self._process is None:
            raise BenchError("the worker was not started")
        return self._process.pid

    def cpu(self) -> meters.Cpu:
        """What the worker has used so far."""
        return meters.cpu(self.pid)

    def wait_for(self, what: str, ready: Callable[[], bool], timeout: float, *, every: float = 0.002) -> None:
        """Wait until ``ready()``; BenchError with the end of its log if it dies or does not get there."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self._process is not None and self._process.poll() is not None:
                raise BenchError(self._story(f"ended with {self._process.returncode} before {what}"))
            if time.monotonic() > deadline:
                raise BenchError(self._story(f"{what}: not within {timeout:g} s"))
            time.sleep(every)

    def wait_count(self, count: int, timeout: float) -> None:
        """Wait until ``count`` tasks have said that they ran; ``timeout`` is for each new one."""
        seen, deadline = -1, 0.0

        def reached() -> bool:
            nonlocal seen, deadline
            now = self._marks.count()
            if now != seen:
                seen, deadline = now, time.monotonic() + timeout
            elif time.monotonic() > deadline:
                raise BenchError(self._story(f"stopped at {seen} of {count} tasks for {timeout:g} s"))
            return now >= count

        self.wait_for(f"{count} tasks", reached, 3600)

    def stop(self, patience: float = 60) -> bool:
        """SIGTERM, and after ``patience`` seconds SIGKILL to all of it; whether it ended by itself."""
        if self._process is None or self._process.returncode is not None:
            return True
        return end(self._process, patience=patience)

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, the first of them first."""
        if self._process is None:
            raise BenchError("the worker was not started")
        kill_family(self._process)

    def _story(self, what: str) -> str:
        log = self._log.read_text(errors="replace")[-3000:]
        return f"{self.contender.label} {what}\n$ {' '.join(self._command)}\n{log}"
