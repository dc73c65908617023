"""The app of the lease tests; its tasks run longer than a lease. LEASE_FRAMEWORK: turbo's own app or Celery's."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
from kombu import Exchange, Queue

from tests.harness.oracle_record import record

if os.environ.get("LEASE_FRAMEWORK") == "celery":
    from celery import Celery as App
else:
    from turbo import Turbo as App

if TYPE_CHECKING:
    from turbo import Task

QUEUE, DEAD = "long", "dead"
#: Seconds: the lease that the worker is told of.
LEASE = 5.0

app = App("lease", broker=os.environ.get("LEASE_BROKER"))
_kind = os.environ.get("LEASE_KIND", "")
_arguments = {
    "x-queue-type": os.environ.get("LEASE_QUEUE_TYPE", "classic"),
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD,
}
if _kind == "single":
    _arguments["x-single-active-consumer"] = True
if "LEASE_TIMEOUT" in os.environ:
    _arguments["x-consumer-timeout"] = int(os.environ["LEASE_TIMEOUT"])
if "LEASE_LIMIT" in os.environ:
    _arguments["x-delivery-limit"] = int(os.environ["LEASE_LIMIT"])
app.conf.update(
    task_default_queue=QUEUE,
    task_queues=[
        Queue(
            QUEUE,
            Exchange(QUEUE),
            QUEUE,
            queue_arguments=_arguments,
            exclusive=_kind == "exclusive",
            auto_delete=_kind == "auto_delete",
        )
    ],
    task_ignore_result=True,
)
LATE = {"acks_late": True, "reject_on_worker_lost": True}


@app.task(bind=True, name="long", shared=False, **LATE)
def long(self: Task, seconds: float) -> None:
    """Run for some time; acknowledged at its end."""
    record("start", self.request.id)
    time.sleep(seconds)
    record("end", self.request.id)


@app.task(bind=True, name="gated", shared=False, **LATE)
def gated(self: Task, gate: str) -> None:
    """Run until a file exists, ten minutes at most; acknowledged at its end."""
    record("start", self.request.id)
    deadline = time.monotonic() + 600
    while not os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.02)
    record("end", self.request.id)


@app.task(bind=True, name="failing", shared=False, acks_late=True, acks_on_failure_or_timeout=False)
def failing(self: Task, seconds: float) -> None:
    """Run for some time, then fail; its message is rejected."""
    record("start", self.request.id)
    time.sleep(seconds)
    raise ValueError("after all")


class Told(app.Task):  # type: ignore[name-defined,misc]
    """A task class that records its failure."""

    def on_failure(self, exc: BaseException, task_id: str, *_: object) -> None:
        """Record the failure; called by the worker."""
        record(f"failed {type(exc).__name__} {exc}".replace("|", "/"), task_id)


@app.task(bind=True, base=Told, name="deadly", shared=False, **LATE)
def deadly(self: Task) -> None:
    """Kill the whole worker, as the kernel does when a container is out of memory."""
    record("start", self.request.id)
    spawner = psutil.Process(os.getppid())
    for pid in (spawner.ppid(), spawner.pid, os.getpid()):
        os.kill(pid, signal.SIGKILL)


@app.task(bind=True, name="rated", shared=False, rate_limit=os.environ.get("LEASE_RATE"))
def rated(self: Task) -> None:
    """Leaves a trace, as often as LEASE_RATE allows."""
    record("start", self.request.id)


@app.task(bind=True, name="note", shared=False)
def note(self: Task) -> None:
    """Record the origin of the message."""
    record("start", self.request.id)
    info = self.request.delivery_info
    record(f"came by {info['exchange']}/{info['routing_key']}", self.request.id)
