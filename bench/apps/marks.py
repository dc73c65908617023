"""How a task says that it ran: a record appended to a file, with one write.

Imported by the tasks in every worker under test, so it uses the standard library alone. ``O_APPEND`` makes each
record land whole, and the clock is the machine's monotonic one, so the bench can compare processes.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time

_one = struct.Struct("<Q").pack
_two = struct.Struct("<QQ").pack
_four = struct.Struct("<QQQQ").pack
#: What a code counts from: it has as many digits whatever it says.
BASE = 1_000_000_000_000_000_000
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


def meet(count: int) -> None:
    """Append the time, then wait until the file has that many numbers."""
    done()
    while os.fstat(_file()).st_size < 8 * count:
        time.sleep(0.1)


def pair(first: int) -> None:
    """Append ``first`` and the time."""
    os.write(_file(), _two(first, time.monotonic_ns()))


def span(seconds: float) -> None:
    """Sleep, then append when that began and when it ended."""
    begun = time.monotonic_ns()
    time.sleep(seconds)
    pair(begun)


def wait(code: int) -> None:
    """Sleep as many nanoseconds as the code says, then append it as ``work`` does."""
    work(code, (code - BASE) / 1e9)


async def wait_async(code: int) -> None:
    """The same in a coroutine."""
    begun = time.monotonic_ns()
    await asyncio.sleep((code - BASE) / 1e9)
    os.write(_file(), _four(code - BASE, begun, time.monotonic_ns(), os.getpid()))


def work(code: int, seconds: float) -> None:
    """Sleep, then append what the code says, when that began, when it ended, and the process's id."""
    begun = time.monotonic_ns()
    time.sleep(seconds)
    os.write(_file(), _four(code - BASE, begun, time.monotonic_ns(), os.getpid()))
