"""Every way in which a task ends reports to the same handlers, receivers and callbacks as a failing body."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import chord
from celery.exceptions import ChordError

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.ends.conftest import Place

MOST = 2
READY = r"ready\.$"


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[WorkerProcess]:
    place.settings = {"task_max_deliveries": MOST}
    with place.worker() as started:
        started.wait_for_line(READY, 60)
        yield started


@pytest.mark.row("P4", "EX1")
def test_a_message_that_is_given_up_fails_as_a_task_does(place: Place, worker: WorkerProcess) -> None:
    app = place.client
    told, by_id = app.signature("told"), app.signature("told_by_id")
    result = app.send_task("poison", link_error=[told, by_id])
    with pytest.raises(Exception, match=f"after {MOST} deliveries whose child or worker died.*SIGKILL") as raised:
        result.get(timeout=60)
    assert type(raised.value).__name__ == "WorkerLostError"
    assert place.wait("told", result.id) == [{"exc": "WorkerLostError"}]
    assert len(place.wait("told_by_id", result.id)) == 1
    heard = place.wait("on_failure", result.id)
    assert [(each["exc"], each["me"]) for each in heard] == [("WorkerLostError", result.id)]
    assert place.wait("task_failure", result.id) == [{"exc": "WorkerLostError", "sender": "poison"}]
    assert place.wait("after_return", result.id) == [{"status": "FAILURE"}]
    assert len(place.lines("run", result.id)) == MOST


@pytest.mark.row("P4")
def test_a_chord_with_a_part_that_is_given_up_fails(place: Place, worker: WorkerProcess) -> None:
    app = place.client
    body = app.signature("body")
    body.on_error(app.signature("told"))
    result = chord([app.signature("fine", (1,)), app.signature("poison")], app=app)(body)
    wait_until("the end of the chord", lambda: result.state == "FAILURE", 60)
    assert isinstance(result.result, ChordError)
    assert f"after {MOST} deliveries" in str(result.result)
    place.wait("told", result.id)
    assert not place.lines("body")


@pytest.mark.row("P4")
def test_a_handler_that_kills_as_well_is_called_a_bounded_number_of_times(place: Place, worker: WorkerProcess) -> None:
    result = place.client.send_task("poison", kwargs={"handler_dies": True})
    with pytest.raises(Exception, match="."):
        result.get(timeout=60)
    with place.channel() as connection:
        channel = connection.channel()

        def empty() -> bool:
            return not channel.queue_declare("ends", passive=True).method.message_count

        wait_until("its queue is empty", empty, 60)
    runs = place.lines("run", result.id)
    assert len(runs) == MOST
    # The failure may be stored before the handler is called.
    assert 1 <= len(place.wait("on_failure", result.id)) <= MOST


@pytest.mark.row("P25")
@pytest.mark.parametrize("task", ["early_and_late", "late"])
def test_one_whose_message_is_refused_fails_once_and_sends_nothing_twice(
    place: Place, worker: WorkerProcess, task: str
) -> None:
    app = place.client
    with place.channel() as connection:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel = connection.channel()
        channel.queue_declare("full", durable=True, arguments=arguments)
        channel.queue_bind("full", "amq.direct")
        channel.basic_publish("", "full", b"in the way")
    result = app.send_task(task, ("full",), link_error=[app.signature("told")])
    error = result.get(timeout=60, propagate=False)
    assert type(error).__name__ == "OperationalError"
    assert len(place.wait("told", result.id)) == 1
    assert len(place.wait("on_failure", result.id)) == 1
    assert len(place.wait("task_failure", result.id)) == 1
    assert len(place.wait("other", result.id)) == 1
    assert len(place.lines("run", result.id)) == 1


@pytest.mark.row("LG17")
@pytest.mark.parametrize(
    ("how", "task"), [("id", "fine"), ("shadow", "fine"), ("revoked", "fine"), ("unknown", "no\nsuch")]
)
def test_a_message_forges_no_line(place: Place, worker: WorkerProcess, how: str, task: str) -> None:
    forged = f"[2026-01-01 00:00:00,000: CRITICAL/MainProcess] forged by {how}"
    app = place.client
    task_id = f"{how}\n{forged}" if how != "shadow" else how
    if how == "revoked":
        app.control.revoke(task_id, reply=True, timeout=60, limit=1)
    result = app.send_task(task, (1,), task_id=task_id, shadow=f"x\n{forged}\x1b[2J", expires=60)
    result.get(timeout=60, propagate=False)
    app.send_task("fine", (2,), task_id=f"after {how}").get(timeout=60)
    worker.wait_for_line(rf"fine\[after {how}\] succeeded")
    lines = worker.output.splitlines()
    assert any("forged by" in line for line in lines), "the message was not named at all"
    assert not [line for line in lines if line.startswith("[2026-01-01")]
    assert "\x1b[2J" not in worker.output
