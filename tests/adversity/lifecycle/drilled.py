"""The torture app with a beat that sends a tick each second; its commands may restart the pool."""

from __future__ import annotations

import time

from tests.adversity.torture.tasks import LATE, app
from tests.harness.oracle_record import record
from turbo.beat import BeatLazyFunc

TICK = 1.0

app.conf.worker_pool_restarts = True
# No message is given up because its workers were killed.
app.conf.task_max_deliveries = 1000
app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": TICK, "args": [BeatLazyFunc(time.monotonic_ns)]}}


@app.task(name="tick", **LATE)
def tick(sent_ns: int) -> None:
    """Record when beat sent this."""
    record("tick", str(sent_ns))
