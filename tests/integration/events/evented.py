"""The app of these tests: turbo's own or Celery's by KIND, with the same tasks, which end in every way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

if os.environ.get("KIND") == "celery":
    from celery import Celery
    from celery.exceptions import Ignore, Reject
else:
    from turbo import Celery
    from turbo.exceptions import Ignore, Reject

app = Celery("evented", broker=os.environ.get("EVENTED_BROKER"), backend=os.environ.get("EVENTED_BACKEND"))
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_eta_park_after = 86_400.0
app.conf.worker_pool_restarts = True
app.conf.worker_pool_restarts = True
app.conf.task_send_sent_event = os.environ.get("SENT_EVENTS") == "1"
app.conf.event_serializer = os.environ.get("EVENT_SERIALIZER", "json")


@app.task(name="evented.give")
def give(value: Any, **_more: Any) -> Any:
    """Succeed."""
    return value


@app.task(name="evented.long")
def long(size: int) -> str:
    """Return a text of this size."""
    return "x" * size


@app.task(name="evented.fail")
def fail(why: str) -> None:
    """Fail."""
    raise ValueError(why)


@app.task(name="evented.retry", bind=True, default_retry_delay=0.1)
def retry(self: Any) -> str:
    """Ask for one more attempt."""
    if self.request.retries:
        return "second"
    raise self.retry(exc=KeyError("again"))


@app.task(name="evented.ignore")
def ignore() -> None:
    """End without a state."""
    raise Ignore


@app.task(name="evented.reject")
def reject() -> None:
    """Reject a message that is acknowledged already."""
    raise Reject("early", requeue=False)


@app.task(name="evented.reject_late", acks_late=True)
def reject_late() -> None:
    """Reject the message."""
    raise Reject("late", requeue=False)


@app.task(name="evented.put_back", bind=True, acks_late=True)
def put_back(self: Any) -> str:
    """Put the message back once."""
    if self.request.delivery_info["redelivered"]:
        return "twice"
    raise Reject("not now", requeue=True)


@app.task(name="evented.fail_late", acks_late=True, acks_on_failure_or_timeout=False)
def fail_late() -> None:
    """Fail, and have the message rejected."""
    raise ValueError("late")


@app.task(name="evented.wait")
def wait(path: str) -> None:
    """Run until somebody ends it."""
    Path(path).touch()
    time.sleep(600)


@app.task(name="evented.overrun", time_limit=1)
def overrun() -> None:
    """Run beyond the hard limit."""
    time.sleep(600)


@app.task(name="evented.die")
def die() -> None:
    """End the child."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="evented.die_late", bind=True, acks_late=True, reject_on_worker_lost=True)
def die_late(self: Any) -> str:
    """End the first child, and run in another."""
    if self.request.delivery_info["redelivered"]:
        return "survived"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@app.task(name="evented.quiet", send_events=False)
def quiet() -> str:
    """Succeed without events."""
    return "quiet"


@app.task(name="evented.progress", bind=True)
def progress(self: Any, steps: int) -> int:
    """Say how far it is."""
    for step in range(steps):
        self.send_event("task-progress", step=step, of=steps)
    return steps


@app.task(name="evented.chain")
def chain(value: Any) -> str:
    """Send another task."""
    sent: str = give.delay(value).id
    return sent


def _record(request: Any, how: str) -> None:
    """Write down for which worker and queue a run is counted, and how it ends."""
    with Path(os.environ["EVENTED_RECORD"]).open("a") as record:
        record.write(f"{request.hostname} {request.delivery_info['routing_key']} {how}\n")


@app.task(name="evented.work", bind=True)
def work(self: Any, how: str) -> str:
    """End in the asked way."""
    _record(self.request, how)
    if how == "fail":
        raise ValueError(how)
    return how


@app.task(name="evented.again", bind=True, max_retries=1, default_retry_delay=1)
def again(self: Any, how: str) -> str:
    """Ask for one more attempt."""
    _record(self.request, how if self.request.retries else "retried")
    if not self.request.retries:
        raise self.retry(exc=ValueError(how))
    return how
