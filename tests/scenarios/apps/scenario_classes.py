"""The tasks of the scenarios that are classes, with handlers and requests."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from celery.worker.request import Request
from scenario_app import app, attempt_of, record
from scenario_errors import OwnError


class Noisy(Task):
    """A task class that records each handler with the state that is stored at that moment."""

    def _heard(self, handler: str, *details: Any) -> None:
        state = self.backend.get_task_meta(self.request.id)["status"] if self.request.id else None
        record(self.request.id, handler, state, *details, attempt=attempt_of(self))

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self._heard("before_start", task_id == self.request.id, list(args), dict(kwargs))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self._heard("on_success", retval, list(args), dict(kwargs))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        what = type(exc).__name__, list(args), dict(kwargs), type(einfo).__name__
        record(task_id, "on_failure", self.backend.get_task_meta(task_id)["status"], *what)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._heard("on_retry", type(exc).__name__, list(args), dict(kwargs), type(einfo).__name__)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        what = status, type(retval).__name__, type(einfo).__name__
        record(task_id, "after_return", *what, attempt=attempt_of(self))


def make_noise(self: Any, how: str, key: int = 1) -> Any:
    if how == "failure":
        raise OwnError("noise")
    if how == "retry" and not self.request.retries:
        raise self.retry(countdown=1, exc=OwnError("later"))
    if how == "ignore":
        raise Ignore
    if how == "sleep":
        time.sleep(60)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return how


noisy = app.task(make_noise, base=Noisy, bind=True, name="s.noisy")


class BadStart(Task):
    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        raise OwnError("not started")


@app.task(base=BadStart, name="s.bad_start")
def bad_start() -> str:
    return "not reached"


class BadEnd(Task):
    def on_success(self, *_: Any) -> None:
        raise OwnError("on_success")


@app.task(base=BadEnd, name="s.bad_end")
def bad_end() -> str:
    return "kept"


class Wrapped(Task):
    """A task class with its own ``__call__``, which is also used by calls in the bodies of other tasks."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["wrapped", super().__call__(*args, **kwargs)]


@app.task(base=Wrapped, bind=True, name="s.wrapped")
def wrapped(self: Any, x: int) -> Any:
    return [self.request.id is not None, x]


@app.task(base=Wrapped, name="s.wrapped_sleep", soft_time_limit=1.5)
def wrapped_sleep() -> None:
    time.sleep(60)


class Counting(Task):
    """A task class with one instance per process, and an attribute that lives as long."""

    abstract = True
    count = 0

    def __init__(self) -> None:
        self.made = True


@app.task(base=Counting, bind=True, name="s.counting")
def counting(self: Any) -> list[Any]:
    self.count += 1
    return [self.made, self.count > 0]


class ByClass(Task):
    name = "s.by_class"
    ignore_result = False

    def run(self, x: int) -> list[Any]:
        return [type(self).__name__, x]


app.register_task(ByClass())


class OwnRequest(Request):
    """A request that records its calls in the master."""

    def _heard(self, hook: str, *details: Any) -> None:
        record(self.id, hook, *details)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        self._heard("request.on_timeout", soft, timeout)
        return super().on_timeout(soft, timeout)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        failed, retval, _ = failed__retval__runtime
        self._heard("request.on_success", bool(failed), None if failed else retval)
        return super().on_success(failed__retval__runtime, **kwargs)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        self._heard("request.on_failure", type(exc_info.exception).__name__)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_retry(self, exc_info: Any) -> Any:
        self._heard("request.on_retry", type(exc_info.exception).__name__)
        return super().on_retry(exc_info)


class Requesting(Noisy):
    Request = OwnRequest


heard = app.task(make_noise, base=Requesting, bind=True, name="s.heard")
late_heard = app.task(make_noise, base=Requesting, bind=True, name="s.late_heard", acks_late=True)


class Named(Task):
    """A task class that names its request class by its dotted name."""

    Request = "scenario_classes:OwnRequest"


@app.task(base=Named, name="s.named")
def named() -> str:
    return "named"
