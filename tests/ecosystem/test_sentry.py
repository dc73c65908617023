"""sentry-sdk's integration with Celery, as installed: what reaches the server that its DSN names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TimeLimitExceeded

from tests.ecosystem.sentry_server import SentryServer
from tests.integration.adopted.place import READY, Place

APP = """
import time
import sentry_sdk

sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], traces_sample_rate=1.0, send_default_pii=True,
                shutdown_timeout=60)

class Called(app.Task):
    abstract = True

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)

@app.task(name="proj.fail")
def fail(what):
    raise ValueError(what)

@app.task(name="proj.fail_called", base=Called)
def fail_called(what):
    raise ValueError(what)

@app.task(name="proj.soft", soft_time_limit=1)
def soft():
    while True:
        time.sleep(0.01)

@app.task(name="proj.hang", time_limit=1)
def hang():
    time.sleep(600)

@app.task(name="proj.kill")
def kill():
    os.kill(os.getpid(), 9)

@app.task(name="proj.first")
def first():
    fail.apply_async(("by another",), task_id="second")
    return sentry_sdk.get_traceparent()

@app.task(name="proj.many")
def many(name):
    for count in range(5):
        sentry_sdk.capture_message(f"{name} {count}")

@app.task(name="proj.expected", throws=(KeyError,))
def expected():
    raise KeyError("no news")
"""


@pytest.fixture
def sentry() -> Iterator[SentryServer]:
    with SentryServer() as server:
        yield server


def of_task(task_id: str) -> Any:
    return lambda event: event.get("tags", {}).get("celery_task_id") == task_id


def told(event: dict[str, Any]) -> list[tuple[str, str]]:
    """The exceptions of an event, the one that was caught last."""
    return [(each["type"], each["value"]) for each in event["exception"]["values"]]


def files(event: dict[str, Any]) -> set[str]:
    """The files of all frames of an event."""
    return {frame["filename"] for each in event["exception"]["values"] for frame in each["stacktrace"]["frames"]}


@pytest.mark.row("EC7")
def test_what_goes_wrong_reaches_sentry(place: Place, sentry: SentryServer) -> None:
    place.write(APP)
    send = place.client.send_task
    with place.worker("-c", "1", env={"SENTRY_DSN": sentry.dsn}) as worker:
        worker.wait_for_line(READY, timeout=60)
        send("proj.expected", task_id="expected")
        send("proj.fail", ("plain",), task_id="plain")
        send("proj.fail_called", ("called",), task_id="called")
        send("proj.soft", task_id="soft")
        hung = send("proj.hang", task_id="hung")
        send("proj.kill", task_id="killed")
        for task_id, name in (("plain", "proj.fail"), ("called", "proj.fail_called")):
            event = sentry.wait("event", of_task(task_id))
            assert told(event)[-1] == ("ValueError", task_id)
            assert event["extra"]["celery-job"] == {"task_name": name, "args": [task_id], "kwargs": {}}
            assert event["transaction"] == name
            assert event["exception"]["values"][-1]["mechanism"] == {"type": "celery", "handled": False}
            assert not {file for file in files(event) if file.startswith("turbo")}
        event = sentry.wait("event", of_task("soft"))
        assert told(event)[-1][0] == "SoftTimeLimitExceeded"
        assert event["fingerprint"] == ["celery", "SoftTimeLimitExceeded", "proj.soft"]
        # Celery's master logs what befell the child, and sentry makes events of what is logged as an error.
        with pytest.raises(TimeLimitExceeded):
            hung.get(timeout=60)
        limit = sentry.wait("event", lambda event: "Hard time limit" in event.get("logentry", {}).get("message", ""))
        assert limit["logger"] == "celery.worker.request"
        assert limit["logentry"]["params"][1:] == ["proj.hang", "hung"]
        lost = sentry.wait("event", lambda event: "exception" in event and told(event)[-1][0] == "WorkerLostError")
        assert lost["logger"] == "celery.worker.request"
        worker.terminate()
        assert worker.wait() == 0
    assert not [event for event in sentry.items("event") if of_task("expected")(event)]


@pytest.mark.row("EC7")
def test_a_trace_goes_on_from_task_to_task(place: Place, sentry: SentryServer) -> None:
    place.write(APP)
    with place.worker("-c", "1", env={"SENTRY_DSN": sentry.dsn}) as worker:
        worker.wait_for_line(READY, timeout=60)
        trace_id, _parent, _sampled = place.client.send_task("proj.first", task_id="first").get(timeout=60).split("-")
        for task_id, name in (("first", "proj.first"), ("second", "proj.fail")):
            transaction = sentry.wait("transaction", of_task(task_id))
            assert transaction["transaction"] == name
            assert transaction["contexts"]["trace"]["trace_id"] == trace_id
            assert transaction["contexts"]["trace"]["op"] == "queue.task.celery"
        spans = {span["op"]: span for span in sentry.wait("transaction", of_task("first"))["spans"]}
        assert spans.keys() >= {"queue.process", "queue.submit.celery", "queue.publish"}
        second = sentry.wait("transaction", of_task("second"))
        assert second["contexts"]["trace"]["parent_span_id"] == spans["queue.submit.celery"]["span_id"]
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("EC7")
@pytest.mark.parametrize("how", ["recycled", "shut down"])
def test_a_child_that_leaves_sends_its_events_first(place: Place, how: str) -> None:
    place.write(APP)
    recycled = ("--max-tasks-per-child", "1") if how == "recycled" else ()
    # Events leave one after another: when the task has ended most of them wait for the answer to the one before.
    with (
        SentryServer(takes=0.2) as sentry,
        place.worker("-c", "1", *recycled, env={"SENTRY_DSN": sentry.dsn}) as worker,
    ):
        worker.wait_for_line(READY, timeout=60)
        for name in ("one", "two"):
            place.client.send_task("proj.many", (name,)).get(timeout=60)
        worker.terminate()
        assert worker.wait() == 0
        for name in ("one", "two"):
            for count in range(5):
                sentry.wait("event", lambda event, text=f"{name} {count}": text in str(event.get("message")))
