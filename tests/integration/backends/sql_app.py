"""An app of turbo's own that keeps its results in a database."""

from __future__ import annotations

import os
import signal
from typing import Any

from turbo import Turbo

app = Turbo("sql_app", broker=os.environ["SQL_BROKER"], backend=os.environ["SQL_BACKEND"])
app.conf.update(result_extended=True, task_track_started=True, task_acks_late=True, result_chord_retry_interval=0.2)


@app.task(name="add")
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@app.task(name="total")
def total(numbers: list[int]) -> int:
    """Return the sum of a list."""
    return sum(numbers)


@app.task(name="fail")
def fail(text: str) -> None:
    """Raise an error."""
    raise ValueError(text)


@app.task(name="progress", bind=True)
def progress(self: Any, gate: str) -> str:
    """Set a state and wait until somebody writes to a FIFO."""
    self.update_state(state="PROGRESS", meta={"percent": 50})
    with open(gate) as opened:
        return opened.read()


@app.task(name="die", acks_late=False)
def die() -> None:
    """Kill the child."""
    os.kill(os.getpid(), signal.SIGKILL)
