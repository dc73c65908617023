"""Tasks that take microseconds or milliseconds, and one that waits."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.integration.worker.tasks import CLASSIC, QUORUM
from turbo import Turbo

app = Turbo("short", broker=os.environ.get("WAYS_BROKER"), backend=os.environ.get("WAYS_BACKEND"))
app.conf.task_queues = {
    CLASSIC: {"exchange": CLASSIC, "routing_key": CLASSIC},
    QUORUM: {"exchange": QUORUM, "routing_key": QUORUM, "queue_arguments": {"x-queue-type": "quorum"}},
}
app.conf.task_default_queue = CLASSIC


app.conf.task_acks_late = "SHORT_LATE" in os.environ


@app.task(name="noop", ignore_result=True)
def noop() -> None:
    """Do nothing."""


@app.task(name="note", ignore_result=True)
def note(file: str, number: int) -> None:
    """Take three milliseconds, then append ``number`` to ``file``."""
    time.sleep(0.003)
    with Path(file).open("a") as numbers:
        numbers.write(f"{number}\n")


@app.task(name="hold", ignore_result=True)
def hold(fifo: str) -> None:
    """Wait until something is written to ``fifo``."""
    Path(fifo).read_text()
