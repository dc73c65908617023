"""The tasks of the scenarios that are functions. The name of each says what it does."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from scenario_app import app, attempt_of, record
from scenario_errors import ExpectedError, LockedError, Outer, OwnError, PickyError

LATE = {"acks_late": True}
#: Acknowledged late, and not at all after a failure or at a time limit.
PICKY = {"acks_late": True, "acks_on_failure_or_timeout": False}
STUBBORN = {"acks_late": True, "reject_on_worker_lost": True}


def say(task: Any, event: str, *details: Any) -> None:
    record(task.request.id, event, *details, attempt=attempt_of(task))


def redelivered(task: Any) -> bool:
    return bool(task.request.delivery_info["redelivered"])


@app.task(name="s.add")
def add(x: Any, y: Any = 0) -> Any:
    return x + y


@app.task(name="s.late_add", **LATE)
def late_add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="s.total")
def total(numbers: list[int], extra: int = 0) -> int:
    return sum(numbers) + extra


@app.task(name="s.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs] if kwargs else list(args)


@app.task(name="s.types")
def types(*args: Any) -> list[str]:
    return [type(each).__name__ for each in args]


@app.task(name="s.size")
def size(text: str) -> int:
    return len(text)


@app.task(name="s.grow")
def grow(count: int) -> str:
    return "x" * count


@app.task(bind=True, name="s.report")
def report(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the attributes of the request, without those that differ between runs."""
    request = self.request
    names = (
        "id", "root_id", "parent_id", "group", "group_index", "shadow", "retries", "timelimit", "argsrepr", "headers",
        "kwargsrepr", "is_eager", "called_directly", "callbacks", "errbacks", "chord", "chain", "eta", "expires",
        "correlation_id", "replaced_task_nesting", "stamped_headers", "stamps", "ignore_result", "lang", "task",
    )  # fmt: skip
    found = {name: getattr(request, name, None) for name in names}
    found["delivery_info"] = request.delivery_info
    found["content_type"] = request.properties["content_type"]
    return {**found, "args": list(args), "kwargs": kwargs, "fields": sorted(vars(request))}


# -- the rows of the acknowledgement table ---------------------------------------------------------------------


def fail(text: str) -> None:
    raise OwnError(text, 5)


early_fail = app.task(fail, name="s.fail")
late_fail = app.task(fail, name="s.late_fail", **LATE)
picky_fail = app.task(fail, name="s.picky_fail", **PICKY)


def try_again(self: Any, times: int, countdown: float = 1) -> str:
    if self.request.retries < times:
        raise self.retry(countdown=countdown, exc=OwnError("not yet"))
    return f"after {self.request.retries}"


early_retry = app.task(try_again, bind=True, name="s.retry")
late_retry = app.task(try_again, bind=True, name="s.late_retry", **LATE)


def ignore() -> None:
    raise Ignore


early_ignore = app.task(ignore, name="s.ignore")
late_ignore = app.task(ignore, name="s.late_ignore", **LATE)


def reject(self: Any, requeue: bool) -> str:
    if redelivered(self):
        return "again"
    raise Reject("not mine", requeue=requeue)


early_reject = app.task(reject, bind=True, name="s.reject")
late_reject = app.task(reject, bind=True, name="s.late_reject", **LATE)


def sleep(self: Any, seconds: float) -> str:
    if redelivered(self):
        return "again"
    time.sleep(seconds)
    return "slept"


early_sleep = app.task(sleep, bind=True, name="s.sleep")
late_sleep = app.task(sleep, bind=True, name="s.late_sleep", **LATE)
picky_sleep = app.task(sleep, bind=True, name="s.picky_sleep", **PICKY)
limited_sleep = app.task(sleep, bind=True, name="s.limited_sleep", time_limit=2)


def catch(seconds: float) -> str:
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "caught"
    return "slept"


early_catch = app.task(catch, name="s.catch")
late_catch = app.task(catch, name="s.late_catch", **PICKY)


def die(self: Any) -> str:
    if redelivered(self):
        return "again"
    os.kill(os.getpid(), signal.SIGKILL)
    return "not reached"


early_die = app.task(die, bind=True, name="s.die")
late_die = app.task(die, bind=True, name="s.late_die", **LATE)
picky_die = app.task(die, bind=True, name="s.picky_die", **PICKY)
stubborn_die = app.task(die, bind=True, name="s.stubborn_die", **STUBBORN)


@app.task(name="s.leave")
def leave(code: int) -> None:
    sys.exit(code)


def hold(self: Any) -> str:
    gate = Path(os.environ["RECORD"]).with_name(f"gate-{self.request.id}")
    say(self, "holding")
    deadline = time.monotonic() + 300
    while not gate.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(gate)
        time.sleep(0.01)
    return "released"


early_hold = app.task(hold, bind=True, name="s.hold")
late_hold = app.task(hold, bind=True, name="s.late_hold", **LATE)


# -- retries ---------------------------------------------------------------------------------------------------


@app.task(bind=True, name="s.exhaust", max_retries=2, default_retry_delay=1)
def exhaust(self: Any, reason: bool) -> None:
    raise self.retry(exc=OwnError("the reason") if reason else None)


@app.task(bind=True, name="s.exhaust_in_except", max_retries=1, default_retry_delay=1)
def exhaust_in_except(self: Any) -> None:
    try:
        raise KeyError("the key")
    except KeyError:
        self.retry(exc=OwnError("instead"))


@app.task(bind=True, name="s.retry_elsewhere")
def retry_elsewhere(self: Any, word: str = "first", more: int = 0) -> list[Any]:
    if not self.request.retries:
        raise self.retry(countdown=1, args=("second",), kwargs={"more": 7}, queue="prio", priority=3)
    return [word, more, self.request.delivery_info["routing_key"], self.request.delivery_info["priority"]]


@app.task(bind=True, name="s.retry_quietly")
def retry_quietly(self: Any) -> str:
    if not self.request.retries:
        self.retry(countdown=1, throw=False)
        return "went on"
    return "second"


@app.task(bind=True, name="s.retry_once", max_retries=5)
def retry_once(self: Any) -> None:
    raise self.retry(countdown=1, max_retries=1, exc=OwnError("enough"))


@app.task(bind=True, name="s.back_off", autoretry_for=(OwnError,), retry_backoff=True, retry_backoff_max=1,
          retry_jitter=False, max_retries=2)  # fmt: skip
def back_off(self: Any, good_from: int) -> int:
    if self.request.retries < good_from:
        raise OwnError("again")
    return int(self.request.retries)


@app.task(name="s.not_for_this", autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), retry_backoff=1)
def not_for_this() -> None:
    raise KeyError("never again")


@app.task(bind=True, name="s.report_after_retry")
def report_after_retry(self: Any) -> dict[str, Any]:
    if not self.request.retries:
        raise self.retry(countdown=1)
    request = self.request
    return {
        "headers": request.headers,
        "timelimit": request.timelimit,
        "shadow": request.shadow,
        "priority": request.delivery_info["priority"],
        "root": request.root_id,
        "parent": request.parent_id,
    }


@app.task(name="s.raise_retry")
def raise_retry() -> None:
    raise Retry("by hand", exc=OwnError("why"))


# -- states, results and errors ---------------------------------------------------------------------------------


@app.task(bind=True, name="s.tracked", track_started=True)
def tracked(self: Any) -> list[Any]:
    meta, deadline = self.backend.get_task_meta(self.request.id), time.monotonic() + 60
    # in turbo's own API the master stores the state, while the body begins
    while meta["status"] != "STARTED" and time.monotonic() < deadline:
        time.sleep(0.01)
        meta = self.backend.get_task_meta(self.request.id)
    return [meta["status"], sorted(meta["result"])]


@app.task(bind=True, name="s.untracked")
def untracked(self: Any) -> str:
    return str(self.backend.get_task_meta(self.request.id)["status"])


@app.task(bind=True, name="s.progress")
def progress(self: Any, leave_it: bool) -> Any:
    self.update_state(state="PROGRESS", meta={"done": 3, "of": 7})
    if leave_it:
        raise Ignore
    # turbo's own API hands the state to the master, which stores it a moment later
    result, deadline = self.AsyncResult(self.request.id), time.monotonic() + 60
    while result.state != "PROGRESS" and time.monotonic() < deadline:
        time.sleep(0.01)
    return result.info


@app.task(bind=True, name="s.own_success")
def own_success(self: Any) -> None:
    self.update_state(state="SUCCESS", meta="by hand")
    raise Ignore


@app.task(bind=True, name="s.other_state")
def other_state(self: Any) -> None:
    self.update_state(task_id=f"{self.request.id}-other", state="ODD", meta=[1])


@app.task(name="s.ignored_add", ignore_result=True)
def ignored_add(x: int, y: int) -> int:
    return x + y


@app.task(name="s.ignored_fail", ignore_result=True)
def ignored_fail() -> None:
    raise OwnError("unseen")


@app.task(name="s.stored_fail", ignore_result=True, store_errors_even_if_ignored=True)
def stored_fail() -> None:
    raise OwnError("seen")


ERRORS: dict[str, Any] = {
    "own": lambda: OwnError("text", {"a": [1]}),
    "picky": lambda: PickyError(3, why="picky"),
    "locked": lambda: LockedError("locked"),
    "nested": lambda: Outer.NestedError("inner"),
    "key": lambda: KeyError("k"),
    "os": lambda: FileNotFoundError(2, "No such file"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "assertion": lambda: AssertionError(),
    "function": lambda: OwnError(lambda: None),
    "stop": lambda: StopIteration("stop"),
    "group": lambda: ExceptionGroup("several", [ValueError("a"), OwnError("b")]),
    "keyboard": lambda: KeyboardInterrupt("keys"),
    "generator": lambda: GeneratorExit("closed"),
}


@app.task(name="s.boom")
def boom(kind: str) -> None:
    raise ERRORS[kind]()


@app.task(name="s.chained")
def chained() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise OwnError("second") from error


@app.task(name="s.throws", throws=(ExpectedError,))
def throws() -> None:
    raise ExpectedError("as announced")


@app.task(name="s.unserialisable")
def unserialisable() -> Any:
    return {1, 2}


@app.task(name="s.pickled", serializer="pickle")
def pickled() -> Any:
    return {1, 2}


# -- canvas ----------------------------------------------------------------------------------------------------


@app.task(name="s.note_id")
def note_id(task_id: str) -> str:
    """An error callback of the old style."""
    return f"of {task_id}"


@app.task(name="s.note_error")
def note_error(request: Any, exc: Any, traceback: Any) -> None:
    """An error callback of the new style, which Celery calls where the task ended."""
    record(request.id, "errback", type(exc).__name__, str(exc)[:40].partition("-")[0], bool(traceback))


def own_id(task: Any, label: str) -> dict[str, str]:
    return {"task_id": f"{task.request.id}-{label}"}


@app.task(bind=True, name="s.spawn")
def spawn(self: Any, x: int) -> int:
    add.apply_async((x, 1), **own_id(self, "one"))
    app.send_task("s.add", (x, 2), **own_id(self, "two"))
    add.signature((x, 3)).apply_async(**own_id(self, "untold"), add_to_parent=False)
    return x


@app.task(bind=True, name="s.call_inside")
def call_inside(self: Any, x: int) -> list[int]:
    return [add(x, 1), add.run(x, 2), add.apply((x, 3)).result]


@app.task(bind=True, name="s.spawn_report")
def spawn_report(self: Any) -> None:
    report.apply_async(**own_id(self, "child"), link=note_link.s().set(**own_id(self, "link")))


@app.task(name="s.note_link")
def note_link(result: dict[str, Any]) -> str:
    return f"link of {result['id']}"


# -- routes ----------------------------------------------------------------------------------------------------


@app.task(bind=True, name="s.encode")
def encode(self: Any) -> list[str]:
    info = self.request.delivery_info
    return [info["exchange"], info["routing_key"]]


@app.task(bind=True, name="s.thumbnail")
def thumbnail(self: Any) -> list[str]:
    info = self.request.delivery_info
    if not self.request.retries:
        raise self.retry(countdown=1)
    return [info["exchange"], info["routing_key"]]


@app.task(bind=True, name="s.priority")
def priority(self: Any) -> int:
    return int(self.request.delivery_info["priority"])
