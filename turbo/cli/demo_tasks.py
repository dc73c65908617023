"""The app of ``turbo demo``: quick tasks, and tasks with special outcomes.

Imported by the demo's worker and by its producer. Each run of a quick task appends one fixed-size record to a file, so
that the demo counts runs independently of what the worker reports.
"""

from __future__ import annotations

import functools
import os
import signal
import struct
import time
from typing import TYPE_CHECKING, Final

from turbo.app.base import Turbo
from turbo.exceptions import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from turbo.app.task import Task

#: The environment variable with the path of the record file; the demo sets it for its worker.
RECORD_VARIABLE: Final = "TURBO_DEMO_RECORD"
#: One run of a quick task: the child's pid and the task's number.
RECORD: Final = struct.Struct("<II")

SOFT_LIMIT: Final = 1.0
HARD_LIMIT: Final = 2.0
#: The worker's ``--max-memory-per-child``, and the bytes that the greedy task allocates.
MEMORY_LIMIT: Final = "160MB"
GREED_BYTES: Final = 160 * 2**20
#: Longer than the interval at which the master samples the memory of its children.
GREED_SECONDS: Final = 1.5
FOR_EVER: Final = 60.0

app = Turbo("demo", set_as_current=False)
_hoard: list[bytearray] = []


@functools.cache
def _record_fd() -> int:
    return os.open(os.environ[RECORD_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


@app.task(name="demo.quick", shared=False, ignore_result=True)
def quick(number: int) -> None:
    """Append a record of this run."""
    os.write(_record_fd(), RECORD.pack(os.getpid(), number))


@app.task(name="demo.retries", shared=False, bind=True, max_retries=3)
def retries(self: Task) -> int:
    """Retry once after a second; return the number of retries."""
    if not self.request.retries:
        raise self.retry(countdown=1)
    return int(self.request.retries)


@app.task(name="demo.polite", shared=False, soft_time_limit=SOFT_LIMIT)
def polite() -> str:
    """Run past the soft time limit and clean up."""
    try:
        time.sleep(FOR_EVER)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "the soft limit was not raised"


@app.task(name="demo.stubborn", shared=False, time_limit=HARD_LIMIT)
def stubborn() -> None:
    """Run past the hard time limit."""
    time.sleep(FOR_EVER)


@app.task(name="demo.doomed", shared=False)
def doomed() -> None:
    """Kill the child during the task, as a crash in C code would."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="demo.greedy", shared=False)
def greedy() -> int:
    """Allocate memory and keep it.

    Returns the pid of the child, which the worker should replace.
    """
    _hoard.append(bytearray(b"x") * GREED_BYTES)
    time.sleep(GREED_SECONDS)
    return os.getpid()
