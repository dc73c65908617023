"""The app of these tests: every task, handler, receiver and request adds a line to a record."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from turbo import Task, Turbo, signals
from turbo.contrib.abortable import AbortableTask
from turbo.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from turbo.native.request import Request

if TYPE_CHECKING:
    from turbo.signals import Signal

MAIN = "signalled"
app = Turbo(MAIN, broker=os.environ.get("SIGNALS_BROKER"), backend=os.environ.get("SIGNALS_BACKEND"))
app.conf.task_default_queue = MAIN
app.conf.worker_hook_timeout = 2
app.conf.worker_deduplicate_successful_tasks = True
#: The receivers of this worker: "task", "worker", "bad"; none of the task's signals without them.
RECEIVERS = os.environ.get("SIGNALS_RECEIVERS", "").split()


def record(what: str, task_id: str | None = None, **details: Any) -> None:
    """Add one line to the record."""
    line = json.dumps([what, task_id, os.getpid(), details], default=str) + "\n"
    out = os.open(os.environ["SIGNALS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(out, line.encode())
    os.close(out)


def stored(task_id: str) -> str | None:
    """Return the stored state of a task."""
    return str(app.AsyncResult(task_id).state)


class Recording(Task):
    """A task class that records each handler with the state that is stored when it is called."""

    def on_bound(self, app: Turbo) -> None:
        self.told = app.main

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        record("before_start", task_id, args=args, kwargs=kwargs, state=stored(task_id))
        if kwargs.get("refuse"):
            raise PermissionError("not today")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> str:
        record("on_success", task_id, retval=retval, state=stored(task_id), me=self.request.id)
        if "handler_raises" in kwargs:
            raise KeyError("in the handler")
        if "handler_dies" in kwargs:
            os.kill(os.getpid(), signal.SIGKILL)
        return "ignored"

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        record("on_retry", task_id, exc=repr(exc), einfo=_shown(einfo), state=stored(task_id))
        if "retry_dies" in kwargs:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        record("on_failure", task_id, exc=repr(exc), einfo=_shown(einfo), state=stored(task_id), me=self.request.id)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        record("after_return", task_id, status=status, retval=repr(retval), einfo=einfo)


def _shown(einfo: Any) -> list[Any]:
    last = str(einfo).strip().splitlines()[-1]
    return [einfo.type.__name__, repr(einfo.exception), last, einfo.traceback == str(einfo), einfo.internal]


@app.task(name="act", base=Recording, bind=True)
def act(self: Task, how: str = "return", **_: Any) -> object:
    """End in the way ``how``."""
    here = (self.request.headers or {}).get("added")
    alive = [large() is not None for large in _large]
    record("body", self.request.id, header=here, bound=self.__dict__.get("told"), alive=alive)
    return _WAYS[how](self)


def _raise(_task: Task) -> None:
    raise ValueError("boom")


def _done_before(task: Task) -> None:
    task.update_state(state="SUCCESS", meta="before")
    raise Reject("its acknowledgement is lost", requeue=True)


class Large:
    """An object that the frames of a failed task refer to."""


_large: list[weakref.ref[Large]] = []


def _leak(_task: Task) -> None:
    large = Large()
    _large.append(weakref.ref(large))
    raise ValueError(str(large))


def _retry(task: Task) -> object:
    if task.request.retries:
        return "second"
    raise task.retry(exc=LookupError("again"), countdown=0)


def _reject(_task: Task) -> None:
    raise Reject(KeyError("unwanted"), requeue=False)


def _ignore(task: Task) -> None:
    task.update_state(state="SUCCESS", meta="by hand")
    raise Ignore


def _hang(_task: Task) -> None:
    while True:
        time.sleep(0.05)


def _die(_task: Task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _unencodable(_task: Task) -> object:
    return {1, 2}


def _soft(_task: Task) -> str:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded as error:
        return type(error).__name__
    return "too long"


class Deaf(Task):
    """A task class with a handler that does not return, or ends its process."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        record("on_failure", task_id)
        if kwargs["way"] == "leave":
            sys.exit(3)
        time.sleep(3600)


_WAYS = {
    "return": lambda _task: 42, "raise": _raise, "retry": _retry, "reject": _reject, "ignore": _ignore, "hang": _hang,
    "die": _die, "leak": _leak, "done_before": _done_before, "unencodable": _unencodable,
    "soft": _soft, "exit": lambda _task: sys.exit(3),
}  # fmt: skip

app.task(name="tracked", base=Recording, bind=True, track_started=True)(lambda self: stored(self.request.id))
app.task(name="counted", base=Recording, bind=True, retry_on_worker_lost=True, max_retries=1, default_retry_delay=0)(
    act.run.__func__
)
app.task(name="late", base=Recording, bind=True, acks_late=True, reject_on_worker_lost=True)(act.run.__func__)
app.task(name="limited", base=Recording, bind=True, time_limit=1)(act.run.__func__)
app.task(name="plain_limited", time_limit=1)(lambda: _hang(act))
app.task(name="deaf", base=Deaf, bind=True)(act.run.__func__)
app.task(name="unstored", base=Recording, bind=True, ignore_result=True)(act.run.__func__)
app.task(name="errors_kept", bind=True, ignore_result=True, store_errors_even_if_ignored=True)(act.run.__func__)
app.task(name="expected", bind=True, throws=(ValueError,))(act.run.__func__)


@app.task(name="waiting", base=Recording)
async def waiting() -> str:
    """A coroutine task with handlers."""
    return "waited"


@app.task(name="errback")
def errback(request: Any, exc: BaseException, trace: str) -> None:
    """An error callback of the new style."""
    record("errback", request.id, exc=repr(exc))


@app.task(name="old_errback")
def old_errback(task_id: str) -> None:
    """An error callback of the old style."""
    record("old_errback", task_id)


@app.task(name="abort_me", base=AbortableTask, bind=True)
def abort_me(self: AbortableTask) -> str:
    """Work until asked to stop."""
    record("body", self.request.id)
    while not self.is_aborted():
        time.sleep(0.02)
    return "stopped"


class Watching(Request):
    """A request that records its calls, in the master."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        record("request.on_accepted", self.id, worker_pid=self.worker_pid, info=self.info(safe=True)["name"])

    def on_timeout(self, soft: bool, timeout: float) -> None:
        super().on_timeout(soft, timeout)
        record("request.on_timeout", self.id, soft=soft, timeout=timeout, worker_pid=self.worker_pid)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> None:
        failed, value, _runtime = failed__retval__runtime
        record("request.on_success", self.id, failed=failed, value=None if failed else value, state=stored(self.id))
        super().on_success(failed__retval__runtime, **kwargs)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        record("request.on_failure", self.id, exc=repr(exc_info.exception), return_ok=return_ok, task=self.task.name)

    def on_retry(self, exc_info: Any) -> None:
        super().on_retry(exc_info)
        record("request.on_retry", self.id, exc=repr(exc_info.exception.exc))


class Bad(Request):
    """A request class whose methods raise or do not return."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        record("request.on_accepted", self.id)
        raise RuntimeError("the request is broken")

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> None:
        record("request.on_success", self.id)
        if self.args:
            time.sleep(3600)
        raise RuntimeError("the request is broken")


class Requeueing(Request):
    """A request class that requeues a failed task once."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        if self.delivery_info["redelivered"]:
            self.acknowledge()
        else:
            self.reject(requeue=True)


class Unpicklable(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


class Watched(Task):
    """A task class that names its request class by its dotted name."""

    Request = "tests.integration.signals.signal_app:Watching"


app.task(name="watched", base=Watched, bind=True, soft_time_limit=30)(act.run.__func__)
app.task(name="watched_soft", base=Watched, bind=True, soft_time_limit=1)(act.run.__func__)
app.task(name="watched_hard", base=Watched, bind=True, time_limit=1)(act.run.__func__)
app.task(name="bad_request", bind=True, Request=Bad)(lambda self, *args: "fine")
app.task(name="requeueing", bind=True, Request=Requeueing, acks_late=True)(act.run.__func__)


@app.task(name="unpicklable", Request=Watching)
def unpicklable() -> None:
    """Raise an exception that cannot be pickled for the master."""
    raise Unpicklable("a", "b")


def _listen(which: Signal, *shown: str) -> None:
    def receiver(sender: Any = None, **named: Any) -> None:
        found = {name: repr(named[name]) for name in shown}
        task_id = named.get("task_id") or getattr(named.get("request"), "id", None) or named.get("id")
        if task_id is None and isinstance(sender, Task):
            task_id = sender.request.id
        record(str(which.name), task_id, sender=getattr(sender, "name", None) or repr(sender), **found)

    which.connect(receiver, weak=False)


if "task" in RECEIVERS:
    _listen(signals.task_prerun, "task", "args", "kwargs")
    _listen(signals.task_postrun, "task", "args", "kwargs", "retval", "state")
    _listen(signals.task_success, "result")
    _listen(signals.task_failure, "exception", "args", "kwargs", "traceback")
    _listen(signals.task_retry, "reason")
    _listen(signals.task_received, "request")
    _listen(signals.task_revoked, "terminated", "signum", "expired")
    _listen(signals.task_unknown, "name", "exc", "message")
    _listen(signals.task_rejected, "exc", "message")
    _listen(signals.task_internal_error, "exception")
if "worker" in RECEIVERS:
    _listen(signals.celeryd_init, "instance", "options")
    _listen(signals.celeryd_after_setup, "instance")
    _listen(signals.worker_init)
    _listen(signals.worker_ready)
    _listen(signals.worker_shutting_down, "sig", "how", "exitcode")
    _listen(signals.worker_shutdown)
    _listen(signals.worker_process_init)
    _listen(signals.worker_process_shutdown, "pid", "exitcode")
    _listen(signals.import_modules)
    _listen(signals.after_setup_logger, "logger", "loglevel", "logfile", "format", "colorize")
    _listen(signals.after_setup_task_logger, "logger")

    @signals.celeryd_init.connect(weak=False)
    def configure(sender: str, conf: Any, **_: Any) -> None:
        """Change the configuration of this host's worker."""
        conf.worker_prefetch_multiplier = 3


if "bad" in RECEIVERS:

    def complain(**_: Any) -> None:
        """A receiver that raises."""
        raise RuntimeError("the receiver is broken")

    def block(**_: Any) -> None:
        """A receiver that does not return."""
        time.sleep(3600)

    for each in (signals.task_prerun, signals.task_postrun, signals.task_success, signals.worker_process_init):
        each.connect(complain, weak=False)
    signals.worker_ready.connect(block, weak=False)
    signals.task_received.connect(block, weak=False)
if "logging" in RECEIVERS:

    @signals.setup_logging.connect(weak=False)
    def take_over(**_: Any) -> None:
        """Set up logging with a custom format."""
        import logging

        logging.basicConfig(format="MINE %(message)s", level=logging.INFO, force=True)
