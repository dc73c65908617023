"""How a task says that it ran: a record appended to a file, with one write.

Imported by the tasks in every worker under test, so it uses the standard library alone. ``O_APPEND`` makes each
record land whole, and the clock is the machine's monotonic one, so the bench can compare processes.
"""

from __future__ import annotations

import os
import struct
import time

_one = struct.Struct("<Q").pack
_two = struct.Struct("<QQ").pack
_fd = -1
_pid = 0


def _file() -> int:
    """The marks file, opened by the process that runs the task: workers close what they inherit."""
    global _fd, _pid
    if _pid != os.getpid():
        _fd = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _pid = os.getpid()
    return _fd


def done() -> None:
    """Append the time, in nanoseconds."""
    os.write(_file(), _one(time.monotonic_ns()))


def pair(first: int) -> None:
    """Append ``first`` and the time."""
    os.write(_file(), _two(first, time.monotonic_ns()))


def span(seconds: float) -> None:
    """Sleep, then append when that began and when it ended."""
    begun = time.monotonic_ns()
    time.sleep(seconds)
    pair(begun)
