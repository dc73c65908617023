"""The app of the controlled workers: the same tasks in a turbo or a Celery app, by KIND."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

if os.environ.get("KIND") == "celery":
    from celery import Celery
    from celery.worker.control import control_command, inspect_command
    from kombu import Queue
else:
    from turbo import Celery, Queue
    from turbo.worker.control import control_command, inspect_command

app = Celery("controlled", broker=os.environ.get("CONTROLLED_BROKER"), backend=os.environ.get("CONTROLLED_BACKEND"))
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_redirect_stdouts = False
# What is due in an hour is held here, where it can be asked for and revoked, and not parked in the broker.
app.conf.worker_eta_park_after = 86_400.0
if "QUEUE" in os.environ:
    app.conf.task_queues = [Queue("celery"), Queue(**json.loads(os.environ["QUEUE"]))]
if "MINGLE_TIMEOUT" in os.environ:
    from turbo.control import mingle

    # A second is a worker's own patience with its neighbours, and not much on a busy machine.
    mingle._TIMEOUT = float(os.environ["MINGLE_TIMEOUT"])  # type: ignore[misc]
    if os.environ.get("KIND") == "celery":
        inspect = app.control.inspect
        app.control.inspect = lambda timeout=None, **options: inspect(timeout=mingle._TIMEOUT, **options)
told: list[str] = []


@inspect_command(alias="hail")
def greet(state: Any, name: str = "nobody") -> dict[str, str]:
    """A command of the app."""
    return {"ok": f"{name} greets {state.hostname} of {state.app.main}, told {told}"}


@control_command(name="tell", args=[("what", str)])
def keep(state: Any, what: str) -> dict[str, str]:
    """A command that changes something, and fails without its argument."""
    told.append(what)
    return {"ok": state.consumer.hostname}


@app.task(name="controlled.wait")
def wait(fifo: str, **_more: Any) -> str:
    """Run until something is written to ``fifo``."""
    return Path(fifo).read_text()


@app.task(name="controlled.late", acks_late=True)
def late(fifo: str) -> str:
    """Like ``wait``, acknowledged at its end."""
    return Path(fifo).read_text()


@app.task(name="controlled.stubborn")
def stubborn(path: str) -> None:
    """Ignore SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    Path(path).touch()
    while True:
        time.sleep(60)


@app.task(name="controlled.asked")
def asked(path: str) -> str:
    """Return the name of the exception that asks the task to end."""
    try:
        Path(path).touch()
        time.sleep(600)
    except Exception as error:  # noqa: BLE001 - the class is the other library's in one of the two apps
        return type(error).__name__
    return "nobody asked"


@app.task(name="controlled.noop", ignore_result=True)
def noop(*_args: Any) -> None:
    """Do nothing."""


@app.task(name="controlled.when")
def when() -> float:
    """Return the time of its start, in seconds of this machine's clock."""
    return time.monotonic()


@app.task(name="controlled.also")
def also() -> float:
    """The same under another name."""
    return time.monotonic()


@app.task(name="controlled.brief", ignore_result=True)
def brief() -> None:
    """Run for two milliseconds."""
    time.sleep(0.002)
