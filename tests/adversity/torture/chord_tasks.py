"""The app of the torture tests for chords. A body returns the sum of the results of its chord's parts."""

from __future__ import annotations

import os
import random
import time

from turbo import Turbo

app = Turbo("chords", broker=os.environ.get("TORTURE_BROKER"), backend=os.environ.get("TORTURE_BACKEND"))
# No part is given up for its bad luck.
app.conf.update(result_expires=86_400, task_max_deliveries=1000)

LATE = {"acks_late": True, "reject_on_worker_lost": True}
#: Seconds that a part takes at most, so that kills fall into all of its life.
DAWDLE = 0.02


@app.task(name="late_part", **LATE)
def late_part(number: int) -> int:
    """A part that is run again when its child dies."""
    time.sleep(random.random() * DAWDLE)
    return number


@app.task(name="quiet_part", ignore_result=True, **LATE)
def quiet_part(number: int) -> int:
    """Like ``late_part``, without a stored result."""
    time.sleep(random.random() * DAWDLE)
    return number


@app.task(name="early_part")
def early_part(number: int) -> int:
    """A part that fails, with its chord, when its child dies."""
    time.sleep(random.random() * DAWDLE)
    return number


@app.task(name="body", **LATE)
def body(numbers: list[int]) -> int:
    """A chord's body, which runs at least once."""
    return sum(numbers)
