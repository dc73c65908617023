"""The app of the torture tests; every task records its runs in the oracle.

An app of turbo's own, or the same of Celery's, by ``TORTURE_FRAMEWORK``. Its import waits while the file that
``TORTURE_IMPORT_GATE`` names exists.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from tests.adversity.torture.limits import SOFT_LIMIT
from tests.harness.oracle_record import record

if os.environ.get("TORTURE_FRAMEWORK") == "celery":
    from celery import Celery as App
    from celery.exceptions import SoftTimeLimitExceeded
else:
    from turbo import Turbo as App
    from turbo.exceptions import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from turbo import Task

while os.path.exists(os.environ.get("TORTURE_IMPORT_GATE", "")):
    time.sleep(0.01)

app = App("torture", broker=os.environ.get("TORTURE_BROKER"), backend=os.environ.get("TORTURE_BACKEND"))
app.conf.update(result_expires=86_400, task_ignore_result=True, task_store_errors_even_if_ignored=True)

LATE = {"acks_late": True, "reject_on_worker_lost": True}


#: One task in so many dawdles up to so many seconds, so that kills fall into bodies and find work behind them.
DAWDLERS, DAWDLE = 4, 0.004


def _leave_trace(identifier: str) -> None:
    record("start", identifier)
    if random.randrange(DAWDLERS) == 0:
        time.sleep(random.random() * DAWDLE)
    record("end", identifier)


@app.task(bind=True, name="early")
def early(self: Task) -> None:
    """A task that is acknowledged when it starts."""
    _leave_trace(self.request.id)


@app.task(bind=True, name="late", **LATE)
def late(self: Task) -> None:
    """A task that is acknowledged at its end, and runs again when its child dies."""
    _leave_trace(self.request.id)


@app.task(bind=True, name="parent", ignore_result=False, **LATE)
def parent(self: Task, child_id: str) -> str:
    """Send one task and return a result; both must be safe before the message is acknowledged."""
    record("start", self.request.id)
    late.apply_async(task_id=child_id)
    record("end", self.request.id)
    return child_id


class Hearing(app.Task):  # type: ignore[misc, name-defined]
    """A task class with a handler that is called when its result is stored."""

    def on_success(self, _result: object, task_id: str, *_: object) -> None:
        record("heard", task_id)


@app.task(bind=True, name="heard", base=Hearing, ignore_result=False, **LATE)
def heard(self: Task) -> str:
    """A task with a handler, so that its outcome is reported before its end."""
    record("start", self.request.id)
    return "done"


@app.task(bind=True, name="wait_for_file", **LATE)
def wait_for_file(self: Task, path: str) -> None:
    """Runs until a file exists; ten minutes at most, so that no test outlives its file."""
    record("start", self.request.id)
    deadline = time.monotonic() + 600
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)
    record("end", self.request.id)


@app.task(bind=True, name="pause", **LATE)
def pause(self: Task, seconds: float) -> None:
    """Run for some time."""
    record("start", self.request.id)
    time.sleep(seconds)
    record("end", self.request.id)


@app.task(bind=True, name="straddle", ignore_result=False, soft_time_limit=SOFT_LIMIT)
def straddle(self: Task, seconds: float, spin: bool) -> str:
    """Run, computing or asleep, until about its soft time limit, which may fall beside its end."""
    try:
        if not spin:
            time.sleep(seconds)
        stop = time.perf_counter() + seconds
        while spin and time.perf_counter() < stop:
            pass
    except SoftTimeLimitExceeded:
        # Counted here as well: one that is raised elsewhere leaves a difference.
        record("soft", self.request.id)
        raise
    return "done"


@app.task(bind=True, name="bystander", ignore_result=False)
def bystander(self: Task) -> str:
    """Has no limit and follows a task with one: a late signal would hit it."""
    return "done"
