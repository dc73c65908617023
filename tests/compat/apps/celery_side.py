"""A real Celery client that sends every kind of message, reads every outcome and prints both as JSON.

Run by the Pythons of several Celery versions. Arguments: prefix of the task ids. BROKER and BACKEND: where. The
last line printed is ``{"version": …, "outcomes": {case: outcome}}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import celery
import compat_shared
from celery import Celery, chain
from kombu import compression
from kombu.utils.json import dumps

PREFIX = sys.argv[1]
NOW = datetime.now(UTC)
FUTURE = NOW + timedelta(days=1)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
#: States that these cases end in although they are none of Celery's final ones.
PASSING = {"PROGRESS", "STARTED", "RETRY"}

app = Celery("client", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(compat_shared.SETTINGS)
old = Celery("old", broker=os.environ["BROKER"], backend=os.environ["BACKEND"], set_as_current=False)
old.conf.update(compat_shared.SETTINGS)
old.conf.task_protocol = 1

results: dict[str, Any] = {}
expected: dict[str, str] = {}
passed: set[str] = set()


def send(case: str, task: str, *args: Any, state: str = "SUCCESS", by: Celery = app, **options: Any) -> None:
    kwargs = options.pop("kw", {})
    results[case] = by.send_task(task, args, kwargs, task_id=f"{PREFIX}{case}", **options)
    expected[case] = state


def sig(case: str, task: str, *args: Any, **options: Any) -> Any:
    signature = app.signature(task, args=args, **options)
    signature.set(task_id=f"{PREFIX}{case}")
    results[case] = app.AsyncResult(f"{PREFIX}{case}")
    expected[case] = "SUCCESS"
    return signature


def requests() -> None:
    send("plain", "report", 1, "ä", None, kw={"k": [1.5, True]})
    send("v1", "report", 1, "ä", by=old, kw={"k": 1})
    send("v1_eta", "report", by=old, eta=PAST, expires=FUTURE)
    send("headers", "report", headers={"tenant": "acme", "x-n": 5, "deep": {"a": [1, 2.5, None, True]}})
    send("past_eta", "report", eta=PAST)
    send("naive_eta", "report", eta=datetime(2020, 1, 1))
    send("countdown", "report", countdown=0.3)
    send("expires_later", "report", expires=FUTURE)
    send("expires_number", "report", expires=600)
    send("limits_int", "report", time_limit=30, soft_time_limit=20)
    send("limits_float", "report", time_limit=30.5, soft_time_limit=1.25)
    send("limit_soft_only", "report", soft_time_limit=9)
    send("priority", "report", queue="prio", priority=7)
    send("no_priority", "report", queue="prio")
    send("topic", "report", exchange="topics", routing_key="orders.eu.new")
    send("shadow", "report", shadow="alias", argsrepr="<hidden>", kwargsrepr="<too>")
    send("transient", "report", delivery_mode=1)
    send("group", "report", group_id="the-group", group_index=3, root_id="the-root", parent_id="the-parent")
    send("retries", "report", retries=2)
    send("own_reply_queue", "report", reply_to=str(uuid.UUID(int=7)))
    send("stamped", "report", stamped_headers=["s"], s="v")
    send("linked_from", "add", 1, 2, link=sig("linked", "add", 10))
    send("linked_twice", "add", 1, 2, link=[sig("link_a", "add", 10), sig("link_b", "report", immutable=True)])
    send("fails_with_link", "boom", "value", state="FAILURE", link_error=sig("errback", "note_failure"))
    send("fails_inline", "boom", "custom", state="FAILURE",
         link_error=app.signature("inline_errback", options={"task_id": "unused"}))  # fmt: skip
    last = sig("step_3", "report", options={"queue": "prio"})
    chain(sig("step_1", "add", 1, 2), sig("step_2", "add", 10), last).apply_async()
    broken = [sig("broken_1", "boom", "value"), sig("broken_2", "add", 10), sig("broken_3", "add", 10)]
    for case in ("broken_1", "broken_2", "broken_3"):
        expected[case] = "FAILURE"
    chain(*broken).apply_async()


def in_view() -> None:
    send("retried_in_view", "flaky", 1)
    send("tracked_in_view", "tracked_add", 1, 2)
    send("progress_in_view", "progress_add", 1, 2)


def contents() -> None:
    plain = ("x" * 3000, 5, 1.5, None, [True, {"a": "ä"}])
    tagged = (FUTURE, date(2030, 1, 2), Decimal("1.10"), uuid.UUID(int=9), b"\xff\x00", datetime(2030, 1, 2))
    send("json_tagged", "report", *tagged)
    send("json_numbers", "echo", 2**63, 2**64, -(2**70), 1e300, 0.1)
    send("json_nan", "echo", float("nan"), float("inf"))
    send("json_surrogate", "echo", "\ud800")
    for serializer in ("yaml", "msgpack", "pickle"):
        send(f"serializer_{serializer}", "report", *plain, serializer=serializer)
    send("pickle_objects", "types", {1, 2}, 1j, (1,), date(2030, 1, 2), serializer="pickle")
    send("msgpack_bytes", "report", b"\xff", serializer="msgpack")
    send("yaml_dates", "report", date(2030, 1, 2), FUTURE, serializer="yaml")
    for name in ("gzip", "bzip2", "lzma", "zstd"):
        if name in compression.encoders() or name in compression._aliases:
            send(f"compression_{name}", "echo", *plain, compression=name)
    send("compressed_pickle", "echo", *plain, serializer="pickle", compression="bzip2")
    send("megabytes_5", "size", "x" * 5_000_000)


def outcomes() -> None:
    for kind in compat_shared.VALUES:
        send(f"value_{kind}", "value", kind)
    for kind in compat_shared.ERRORS:
        send(f"error_{kind}", "boom", kind, state="FAILURE")
    for kind in ("set", "object", "deep", "function"):
        send(f"unserialisable_{kind}", "unserialisable", kind, state="FAILURE")
    send("wrong_arity", "add", 1, state="FAILURE")
    send("soft_limit", "stuck", 20, soft_time_limit=0.2, state="FAILURE")
    send("hard_limit", "stuck", 20, time_limit=1, state="FAILURE")
    send("hard_limit_float", "stuck", 20, time_limit=0.5, state="FAILURE")
    send("lost", "die", state="FAILURE")
    send("unregistered", "no.such.task", state="FAILURE")
    # As a header only: with the option, the broker itself may drop the message before anybody sees it.
    send("expired", "report", headers={"expires": PAST.isoformat()}, state="REVOKED")
    soon = (NOW + timedelta(seconds=0.5)).isoformat()
    send("expired_while_held", "report", countdown=2, headers={"expires": soon}, state="REVOKED")
    send("rejected", "rejecting", state="FAILURE")
    send("progress", "progress", "x", state="PROGRESS")
    send("started", "tracked", state="STARTED")
    send("retry_waiting", "later", state="RETRY")
    send("retried", "flaky", 2, "w", headers={"tenant": "acme", "x-death": [{"count": 1}], "x-first-death-queue": "q"},
         time_limit=30, soft_time_limit=20.5, shadow="alias")  # fmt: skip
    send("retried_on_topic", "flaky", 1, exchange="topics", routing_key="orders.us")
    send("retried_with_priority", "flaky", 1, queue="prio", priority=4)
    send("retried_with_link", "flaky", 1, link=sig("after_retry", "report", immutable=True))
    send("exhausted", "exhausted", False, state="FAILURE")
    send("exhausted_with_reason", "exhausted", True, state="FAILURE")
    send("kept_by_header", "careless", ignore_result=False)


def note_state(meta: Any) -> None:
    """Called with every document that arrives while the client waits for a result."""
    passed.add(f"{meta['task_id'].removeprefix(PREFIX)} {meta['status']}")


def read(case: str, result: Any, deadline: float) -> dict[str, Any]:
    wanted = expected[case]
    if wanted in PASSING:
        while result.state != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        value = result.info
    else:
        try:
            left = max(0.1, deadline - time.monotonic())
            value = result.get(timeout=left, propagate=False, on_message=note_state)
        except celery.exceptions.TimeoutError:
            return {"state": f"timeout, {result.state}"}
    seen: dict[str, Any] = {"state": result.state, "traceback": result.traceback}
    if isinstance(value, BaseException):
        kind = type(value)
        seen["raised"] = f"{kind.__module__}.{kind.__qualname__}"
        seen["args"] = repr(value.args)
    else:
        try:
            seen["value"] = json.loads(dumps(value))
        except (TypeError, ValueError) as error:
            seen["value"] = f"{value!r} ({error!r})"
        seen["repr"] = repr(value)[:500]
    return seen


def main() -> None:
    # Without results first: by the time that everything else has been read, they have run.
    app.send_task("careless", task_id=f"{PREFIX}ignored_by_call", ignore_result=True)
    app.send_task("careless", (True,), task_id=f"{PREFIX}ignored_failure", ignore_result=True)
    app.send_task("report", task_id=f"{PREFIX}ignored_report", ignore_result=True)
    app.send_task("careless", task_id=f"{PREFIX}ignored_by_task", headers={"ignore_result": None})
    by_rpc = os.environ["BACKEND"].startswith("rpc")
    if not by_rpc:
        requests()
        contents()
    in_view()
    outcomes()
    deadline = time.monotonic() + 100
    if by_rpc:
        # Replies go to whoever sent the message, and a state that is none of the final ones ends no wait.
        # An old client waits a second for every result that came while it waited for another: not all of them, then.
        many = [case for case in results if case.startswith(("value_", "error_", "unserialisable_"))]
        passing = [case for case in results if expected[case] in PASSING]
        for case in ("after_retry", *passing, *(case for case in many if case not in many[::4])):
            del results[case]
    ordered = sorted(results, key=lambda case: expected[case] not in PASSING)
    seen = {case: read(case, results[case], deadline) for case in ordered}
    for case, outcome in seen.items():
        outcome["expected"] = expected[case]
    print(json.dumps({"version": celery.__version__, "outcomes": seen, "passed": sorted(passed)}, default=str))


if __name__ == "__main__":
    main()
