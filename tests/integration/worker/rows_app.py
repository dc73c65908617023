"""The app of the whole-worker tests: configured routes and queues, and a task for each behaviour."""

from __future__ import annotations

import functools
import logging
import os
import random
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.harness.oracle_record import record
from turbo import AsyncResult, Task, Turbo, current_task
from turbo.exceptions import Ignore, Reject

app = Turbo("rows", broker=os.environ.get("ROWS_BROKER"), backend=os.environ.get("ROWS_BACKEND"))
app.conf.timezone = "Asia/Tokyo"
#: Queues by what is done, bound to one exchange, as the first Celery manual had them.
app.conf.task_queues = {
    "video": {"exchange": "tasks", "exchange_type": "topic", "routing_key": "video.#"},
    "image": {"exchange": "tasks", "exchange_type": "topic", "routing_key": "image.#"},
    "lowpri": {"exchange": "tasks", "exchange_type": "topic", "routing_key": "misc.#"},
    "shared": {"exchange": "shared", "routing_key": "shared"},
    "ranked": {"exchange": "ranked", "routing_key": "ranked", "queue_arguments": {"x-max-priority": 10}},
}
app.conf.task_default_queue = "video"
app.conf.task_default_exchange = "tasks"
app.conf.task_default_exchange_type = "topic"
app.conf.task_default_routing_key = "video.any"
app.conf.task_routes = {
    "rows.resize": {"exchange": "tasks", "routing_key": "image.resize"},
    "rows.tidy*": {"exchange": "tasks", "routing_key": "misc.tidy"},
}

if os.environ.get("ROWS_SEND_AT_IMPORT"):
    # An app that opens its connection before anything is forked.
    app.send_task("rows.nothing", queue="at import", exchange="", routing_key="at import")


def passed(gate: str) -> None:
    """Wait until a file exists."""
    while not Path(gate).exists():
        time.sleep(0.01)


@app.task(bind=True, name="rows.where", acks_late=True)
def where(self: Task, gate: str = "") -> dict[str, Any]:
    record("start", self.request.id)
    if gate:
        passed(gate)
    return {
        "hostname": self.request.hostname,
        "pid": os.getpid(),
        "random": random.random(),
        "connections": len(psutil.Process().net_connections()),
        "maps": "memfd:turbo-tasks" in Path("/proc/self/maps").read_text(),
        "priority": self.request.delivery_info["priority"],
        "argsrepr": getattr(self.request, "argsrepr", None),
    }


for _name in ("rows.compress", "rows.resize", "rows.tidy_up"):
    app.task(bind=True, name=_name, acks_late=True)(where.run.__func__)


@app.task(bind=True, name="rows.again", max_retries=1, default_retry_delay=0)
def again(self: Task) -> int:
    record("start", self.request.id, self.request.delivery_info["priority"])
    if not self.request.retries:
        raise self.retry()
    return int(self.request.delivery_info["priority"])


@app.task(bind=True, name="rows.retry_into", max_retries=1, default_retry_delay=0)
def retry_into(self: Task, queue: str) -> None:
    """Retry to a queue that this worker has not declared."""
    raise self.retry(exc=ValueError("later"), exchange="", routing_key=queue, queue=queue)


@app.task(name="rows.tell")
def tell(gate: str) -> str:
    """Publish to an undeclared queue over a connection of this child's own."""
    passed(gate)
    app.send_task("rows.nothing", queue=f"fresh {os.getpid()}")
    app.send_task("rows.nothing", queue=f"fresh {os.getpid()}")
    return f"fresh {os.getpid()}"


@app.task(name="rows.signalled")
def signalled(gate: str) -> str:
    """Survive signals; return the signals that a program started here ignores."""
    record("start", "signalled")
    passed(gate)
    shown = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


@app.task(name="rows.publishes")
def publishes(queue: str) -> None:
    """Publish twice: the first message declares the queue over this child's connection, the master sends the second."""
    app.send_task("rows.nothing", queue=queue)
    app.send_task("rows.nothing", queue=queue)


@app.task(name="rows.size")
def size(text: str) -> int:
    return len(text)


# -- definitions -------------------------------------------------------------------------------------------


def shouted(body: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(body)
    def inner(*args: Any) -> str:
        return body(*args).upper()

    return inner


@app.task(name="any name: used verbatim, ümlauts too")
@shouted
def decorated(text: str) -> str:
    return text


@app.task(name="rows.sends")
def sends() -> str:
    """Send a task of the same app, whose routes apply here too."""
    return tidied.delay("from a task").id


@app.task(name="rows.tidied")
def tidied(text: str) -> str:
    return text


# -- handlers ----------------------------------------------------------------------------------------------


class Told(Task):
    """A task class that records where its handlers run; their return values have no effect."""

    def before_start(self, task_id: str, *_: Any) -> Any:
        return self._note("before_start", task_id)

    def on_success(self, _retval: Any, task_id: str, *_: Any) -> Any:
        return self._note("on_success", task_id)

    def on_failure(self, _exc: Any, task_id: str, *_: Any) -> Any:
        return self._note("on_failure", task_id)

    def on_retry(self, _exc: Any, task_id: str, *_: Any) -> Any:
        return self._note("on_retry", task_id)

    def after_return(self, _status: Any, _retval: Any, task_id: str, *_: Any) -> Any:
        return self._note("after_return", task_id)

    def _note(self, event: str, task_id: str) -> str:
        record(event, task_id, threading.get_ident())
        return "a handler's value"


@app.task(base=Told, bind=True, name="rows.told", max_retries=1, default_retry_delay=0)
def told(self: Task, how: str) -> str:
    record("start", self.request.id, threading.get_ident())
    if how == "raise":
        raise ValueError("boom")
    if how == "retry" and not self.request.retries:
        raise self.retry(exc=ValueError("later"))
    return "the body's value"


class Barred(Task):
    def before_start(self, *_: Any) -> None:
        raise ValueError("barred")


@app.task(base=Barred, bind=True, name="rows.barred")
def barred(self: Task) -> None:
    record("start", self.request.id)


# -- ends --------------------------------------------------------------------------------------------------


@app.task(name="rows.plain")
def plain(value: Any = "plain") -> Any:
    return value


@app.task(name="rows.expected", throws=(KeyError,))
def expected(kind: str) -> None:
    raise KeyError("expected") if kind == "expected" else ValueError("unexpected")


@app.task(bind=True, name="rows.ends", max_retries=None)
def ends(self: Task, how: str) -> None:
    if how == "ignored":
        raise Ignore
    if how == "ignored after SUCCESS":
        self.update_state(state="SUCCESS", meta="by hand")
        raise Ignore
    if how == "rejected":
        raise Reject("not mine", requeue=False)
    if how == "memory":
        raise MemoryError
    raise self.retry(exc=ValueError("later"), countdown=600)


_OPTIONS: dict[str, dict[str, Any]] = {
    "rows.factor": {"retry_backoff": 3, "retry_jitter": False},
    "rows.doubled": {"retry_backoff": True, "retry_jitter": False},
    "rows.capped": {"retry_backoff": 1000, "retry_jitter": False},
    "rows.capped_lower": {"retry_backoff": 1000, "retry_backoff_max": 70, "retry_jitter": False},
    "rows.jitter": {"retry_backoff": 1000, "retry_backoff_max": 100},
}
for _name, _more in _OPTIONS.items():

    @app.task(name=_name, autoretry_for=(OSError,), max_retries=10, **_more)
    def _tries() -> None:
        raise OSError("not yet")


@app.task(name="rows.errors_kept", ignore_result=True, store_errors_even_if_ignored=True)
def errors_kept(fail: bool) -> None:
    if fail:
        raise ValueError("kept")


@app.task(name="rows.waits")
def waits(other: str, allowed: bool) -> Any:
    return AsyncResult(other, app=app).get(timeout=60, disable_sync_subtasks=not allowed)


# -- what stays of a task ----------------------------------------------------------------------------------

_kept: list[BaseException] = []
_seen: list[weakref.ref[Any]] = []


class Large:
    """An object that a task's frame holds."""


class Keeping(Task):
    def on_failure(self, exc: BaseException, *_: Any) -> None:
        _kept.append(exc)


@app.task(base=Keeping, name="rows.leaky", ignore_result=False)
def leaky() -> None:
    large = Large()
    _seen.append(weakref.ref(large))
    raise ValueError("kept by a handler")


@app.task(name="rows.leaked", ignore_result=False)
def leaked() -> list[int]:
    """Return how many failures are kept in memory, and how many objects of their frames."""
    return [len(_kept), sum(ref() is not None for ref in _seen)]


@app.task(bind=True, name="rows.threads")
def threads(self: Task) -> list[Any]:
    """Return the current task that a thread of a task sees."""
    found: list[Any] = []

    def look() -> None:
        try:
            found.append(current_task.request.id)
        except (AttributeError, RuntimeError):
            found.append(None)

    for _ in range(2):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    return found


@app.task(name="rows.chatter")
def chatter(letter: str, gate: str) -> None:
    passed(gate)
    for _ in range(100):
        logging.getLogger("rows").warning("<%s>", letter * 3000)
