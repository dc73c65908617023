"""The same tasks for a turbo worker and a real Celery worker; COMPAT_LIB selects the library.

``-A compat_tasks`` finds ``app``. BROKER, BACKEND: where. COMPAT_SETTINGS: more settings, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from compat_shared import ERRORS, SETTINGS, VALUES

from tests.harness.oracle_record import VARIABLE, record

if os.environ["COMPAT_LIB"] == "turbo":
    from turbo import Turbo as App
    from turbo.exceptions import Ignore, Reject
else:
    from celery import Celery as App
    from celery.exceptions import Ignore, Reject

app: Any = App("compat", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND"))
app.conf.update(SETTINGS)
app.conf.update(json.loads(os.environ.get("COMPAT_SETTINGS", "{}")))

ATTRIBUTES = (
    "id", "root_id", "parent_id", "group", "group_index", "correlation_id", "reply_to", "origin", "retries", "eta",
    "expires", "timelimit", "callbacks", "errbacks", "chain", "chord", "shadow", "ignore_result", "headers",
    "is_eager", "called_directly", "delivery_info", "hostname", "replaced_task_nesting", "stamps",
    "stamped_headers", "utc", "args", "kwargs",
)  # fmt: skip


def note(event: str, identifier: str, attempt: int = 0) -> None:
    if VARIABLE in os.environ:
        record(event, identifier, attempt)


@app.task(bind=True, name="report")
def report(self: Any, *args: Any, **kwargs: Any) -> Any:
    request = self.request
    seen = {name: getattr(request, name) for name in ATTRIBUTES}
    seen["properties"] = {
        name: request.properties.get(name)
        for name in ("content_type", "correlation_id", "delivery_mode", "priority", "reply_to", "expiration")
        if name in request.properties
    }
    seen["time_limits"] = [getattr(request, "time_limit", None), getattr(request, "soft_time_limit", None)]
    seen["tenant"] = getattr(request, "tenant", None)
    seen["types"] = [type(arg).__name__ for arg in args]
    return seen


@app.task(name="types")
def types(*args: Any) -> list[str]:
    return [repr(arg) for arg in args]


@app.task(name="echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return [args, kwargs]


@app.task(name="size")
def size(text: str) -> int:
    return len(text)


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="value")
def value(kind: str) -> Any:
    return VALUES[kind]()


@app.task(name="unserialisable")
def unserialisable(kind: str) -> Any:
    return {"set": {1, 2}, "object": object(), "deep": [{"a": {1}}], "function": len}[kind]


@app.task(name="boom")
def boom(kind: str) -> Any:
    raise ERRORS[kind]()


@app.task(name="note_failure")
def note_failure(task_id: str) -> str:
    return f"{task_id} has failed"


@app.task(name="inline_errback")
def inline_errback(request: Any, exc: BaseException, traceback: Any) -> None:
    note(f"errback {type(exc).__name__} {exc}", request.id)


@app.task(bind=True, name="flaky")
def flaky(self: Any, times: int, word: str = "") -> Any:
    request = self.request
    if request.retries < times:
        raise self.retry(countdown=0, exc=ValueError("again"), max_retries=None)
    return {
        name: getattr(request, name)
        for name in ("id", "root_id", "parent_id", "retries", "headers", "timelimit", "delivery_info", "shadow",
                     "callbacks", "chain", "stamps", "expires", "ignore_result")
    } | {"word": word, "eta": request.eta is not None}  # fmt: skip


@app.task(bind=True, name="later", max_retries=3)
def later(self: Any, countdown: float = 3600, **options: Any) -> None:
    raise self.retry(exc=ValueError("not now"), countdown=countdown, **options)


@app.task(bind=True, name="exhausted", max_retries=1)
def exhausted(self: Any, with_reason: bool) -> None:
    if with_reason:
        try:
            raise OSError("the cause")
        except OSError as error:
            self.retry(exc=error, countdown=0)
    self.retry(countdown=0)


@app.task(name="stuck")
def stuck(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="die")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, name="progress")
def progress(self: Any, kind: str) -> None:
    self.update_state(state="PROGRESS", meta={"done": 5, "of": [1, 2], "kind": kind})
    raise Ignore


@app.task(bind=True, name="tracked", track_started=True)
def tracked(self: Any) -> None:
    raise Ignore


@app.task(name="tracked_add", track_started=True)
def tracked_add(x: int, y: int) -> int:
    return x + y


@app.task(bind=True, name="progress_add")
def progress_add(self: Any, x: int, y: int) -> int:
    self.update_state(state="PROGRESS", meta={"at": x})
    return x + y


@app.task(name="rejecting")
def rejecting() -> None:
    raise Reject("not mine", requeue=False)


@app.task(name="careless", ignore_result=True)
def careless(fails: bool = False) -> str:
    if fails:
        raise ValueError("careless")
    return "kept"


@app.task(bind=True, name="mark")
def mark(self: Any, name: str = "") -> str:
    note("start", name or self.request.id, self.request.retries)
    return name


@app.task(name="malformed.any")
def malformed(*args: Any, **kwargs: Any) -> None:
    note("ran", "malformed")


@app.task(name="when")
def when() -> float:
    return time.time()


@app.task(bind=True, name="twice")
def twice(self: Any, countdown: float) -> int:
    note("start", self.request.id, self.request.retries)
    if not self.request.retries:
        raise self.retry(countdown=countdown)
    return int(self.request.retries)


@app.task(bind=True, name="tree")
def tree(self: Any) -> str:
    return str(self.app.send_task("add", (1, 2)).id)
