"""The app that ``turbo demo`` runs: tasks that are quick, fail in instructive ways, and note that they ran.

Imported by the demo's worker and by its producer. Each run of a quick task appends one fixed-size record to a
file, so that the demo can count runs without trusting what the worker says about itself.
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

#: Where the records go; set by the demo for its worker.
RECORD_VARIABLE: Final = "TURBO_DEMO_RECORD"
#: One run of a quick task: the child's pid and the task's number.
RECORD: Final = struct.Struct("<II")

SOFT_LIMIT: Final = 1.0
HARD_LIMIT: Final = 2.0
#: The worker's ``--max-memory-per-child``, and what the greedy task holds beyond what a child has anyway.
MEMORY_LIMIT: Final = "160MB"
GREED_BYTES: Final = 160 * 2**20
#: Longer than the master's sampling of its children's memory.
GREED_SECONDS: Final = 1.5
FOR_EVER: Final = 60.0

app = Turbo("demo", set_as_current=False)
_hoard: list[bytearray] = []


@functools.cache
def _record_fd() -> int:
    return os.open(os.environ[RECORD_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


@app.task(name="demo.quick", shared=False, ignore_result=True)
def quick(number: int) -> None:
    """Note that it ran, and nothing else."""
    os.write(_record_fd(), RECORD.pack(os.getpid(), number))


@app.task(name="demo.retries", shared=False, bind=True, max_retries=3)
def retries(self: Task) -> int:
    """Fail once, try again a second later; return how many attempts there were before this one."""
    if not self.request.retries:
        raise self.retry(countdown=1)
    return int(self.request.retries)


@app.task(name="demo.polite", shared=False, soft_time_limit=SOFT_LIMIT)
def polite() -> str:
    """Run too long, notice the soft limit, clean up."""
    try:
        time.sleep(FOR_EVER)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "never told"


@app.task(name="demo.stubborn", shared=False, time_limit=HARD_LIMIT)
def stubborn() -> None:
    """Run too long and listen to nothing."""
    time.sleep(FOR_EVER)


@app.task(name="demo.doomed", shared=False)
def doomed() -> None:
    """Take the whole child down in the middle of the task, as a crash in C code would."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="demo.greedy", shared=False)
def greedy() -> int:
    """Hold on to memory; return the pid of the child that should be replaced for it."""
    _hoard.append(bytearray(b"x") * GREED_BYTES)
    time.sleep(GREED_SECONDS)
    return os.getpid()
