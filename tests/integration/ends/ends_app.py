"""The app of these tests, of either library; everything that runs adds a line to a record."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

if os.environ["ENDS_LIB"] == "turbo":
    from turbo import Celery, Task, signals
else:
    from celery import Celery, Task, signals

MAIN = "ends"
app = Celery(MAIN, broker=os.environ["ENDS_BROKER"], backend=os.environ["ENDS_BACKEND"])
app.conf.update(task_default_queue=MAIN, task_create_missing_queues=True, result_extended=False)
app.conf.update(json.loads(os.environ.get("ENDS_SETTINGS", "{}")))


def record(what: str, task_id: str | None, **details: Any) -> None:
    """Add one line to the record."""
    line = json.dumps([what, task_id, details], default=str) + "\n"
    out = os.open(os.environ["ENDS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(out, line.encode())
    os.close(out)


class Heard(Task):
    """A task whose handlers record its end."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        record("on_failure", task_id, exc=type(exc).__name__, text=str(exc), me=self.request.id)
        if kwargs.get("handler_dies"):
            os.kill(os.getpid(), signal.SIGKILL)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        record("after_return", task_id, status=status)


@signals.task_failure.connect(weak=False)
def failed(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """Record every failure."""
    record("task_failure", task_id, exc=type(exception).__name__, sender=sender.name)


@app.task(name="poison", base=Heard, bind=True, acks_late=True, reject_on_worker_lost=True)
def poison(self: Task, **_: Any) -> None:
    """Kill the process that runs it."""
    record("run", self.request.id)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="early_and_late", base=Heard, bind=True)
def early(self: Task, queue: str) -> None:
    """Send to a queue that accepts the message, and to one that may not."""
    record("run", self.request.id)
    app.send_task("other", (self.request.id,), queue=MAIN)
    app.send_task("other", ("never",), exchange="amq.direct", routing_key=queue)


@app.task(name="late", base=Heard, bind=True, acks_late=True)
def late(self: Task, queue: str) -> None:
    """Like ``early``, acknowledged late."""
    early.run.__func__(self, queue)


@app.task(name="other", ignore_result=True)
def other(by: str) -> None:
    """The task that the others send."""
    record("other", by)


@app.task(name="fine")
def fine(x: int) -> int:
    """A part of a chord."""
    return x


@app.task(name="told")
def told(request: Any, exc: BaseException, _traceback: Any) -> None:
    """An error callback of the new style."""
    record("told", request.id, exc=type(exc).__name__)


@app.task(name="told_by_id")
def told_by_id(task_id: str) -> None:
    """An error callback of the old style."""
    record("told_by_id", task_id)


@app.task(name="body")
def body(results: Any) -> None:
    """A chord's body, which never runs."""
    record("body", None)


@app.task(name="parent", acks_late=True)
def parent(number: int) -> None:
    """Send one message that no consumer here takes."""
    app.send_task("other", (number,), exchange="amq.direct", routing_key="sink")
