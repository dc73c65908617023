"""One unmodified Celery app for every worker of the scenarios, and a recorder of all calls that it gets.

BROKER, BACKEND: where. RECORD: the file to which each signal and each word of a task's adds a line. EXTRAS: further
settings, as JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, signals
from scenario_settings import SETTINGS

app = Celery(
    "scenarios",
    broker=os.environ["BROKER"],
    backend=os.environ["BACKEND"],
    include=["scenario_tasks", "scenario_classes", "scenario_canvas"],
)
app.conf.update(
    SETTINGS,
    broker_connection_retry_on_startup=True,
    worker_lost_wait=0.5,
    **json.loads(os.environ.get("EXTRAS", "{}")),
)


_who = ["master"]


@signals.worker_process_init.connect
def in_child(**_: Any) -> None:
    _who[0] = "child"


def record(task_id: str | None, event: str, *details: Any, attempt: int = 0) -> None:
    """Append a line to the file: process, message, attempt, event. One write, so that lines never mix."""
    line = json.dumps([task_id, attempt, _who[0], event, *details], default=repr) + "\n"
    out = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(out, line.encode())
    finally:
        os.close(out)


def attempt_of(task: Any) -> int:
    """Return the attempt of the running message; a redelivery counts as one more."""
    request = task.request
    return int(request.retries or 0) + bool((request.delivery_info or {}).get("redelivered"))


@signals.task_prerun.connect
def prerun(sender: Any, task_id: str, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
    record(task_id, "prerun", task.name, sender is task, attempt=attempt_of(task))


@signals.task_postrun.connect
def postrun(sender: Any, task_id: str, task: Any, retval: Any, state: str, **_: Any) -> None:
    record(task_id, "postrun", state, type(retval).__name__, attempt=attempt_of(task))


@signals.task_success.connect
def success(sender: Any, result: Any, **_: Any) -> None:
    record(sender.request.id, "success", type(result).__name__, attempt=attempt_of(sender))


@signals.task_failure.connect
def failure(sender: Any, task_id: str, exception: Any, args: Any, kwargs: Any, traceback: Any, einfo: Any,
            **_: Any) -> None:  # fmt: skip
    details = type(exception).__name__, list(args), dict(kwargs), type(einfo).__name__, einfo.type.__name__
    record(task_id, "failure", *details, attempt=attempt_of(sender))


@signals.task_retry.connect
def retry(sender: Any, request: Any, reason: Any, einfo: Any, **_: Any) -> None:
    record(request.id, "retry", type(reason).__name__, type(reason.exc).__name__, type(einfo).__name__,
           attempt=attempt_of(sender))  # fmt: skip


@signals.task_internal_error.connect
def internal_error(sender: Any, task_id: str, exception: Any, **_: Any) -> None:
    record(task_id, "internal_error", type(exception).__name__)


@signals.task_revoked.connect
def revoked(sender: Any, request: Any, terminated: bool, signum: Any, expired: bool, **_: Any) -> None:
    # Celery says None of what was looked at and has not expired, False of what was not looked at
    record(request.id, "revoked", sender.name, terminated, str(signum), bool(expired))


@signals.task_rejected.connect
def rejected(sender: Any, message: Any, exc: Any, **_: Any) -> None:
    record(message.headers.get("id"), "rejected", type(exc).__name__)


@signals.task_unknown.connect
def unknown(sender: Any, message: Any, exc: Any, name: str, id: str, **_: Any) -> None:
    record(id, "unknown", name, type(exc).__name__)


@signals.before_task_publish.connect
def publish(sender: str, headers: Any, body: Any, routing_key: str, exchange: Any, **_: Any) -> None:
    record(headers["id"], "publish", sender, exchange or "", routing_key, attempt=headers.get("retries") or 0)


if "RECORD_RECEIVED" in os.environ:

    @signals.task_received.connect
    def received(sender: Any, request: Any, **_: Any) -> None:
        record(request.id, "received", request.name, attempt=request.request_dict.get("retries") or 0)
