"""An app as many have it: broker and result store come from the environment, the rest from the command line."""

from __future__ import annotations

import time
from pathlib import Path

from celery import Celery

app = Celery("proj", set_as_current=False)
app.conf.update(task_default_queue="default", broker_connection_retry_on_startup=True)


@app.task(name="proj.hold")
def hold(started: str, released: str, seconds: float) -> str:
    """Create the first file, then run until the second one exists."""
    Path(started).touch()
    deadline = time.monotonic() + seconds
    while not Path(released).exists():
        if time.monotonic() > deadline:
            return "forgotten"
        time.sleep(0.01)
    return "finished"
