"""Results of an adopted app in Redis: who stores them, and who finds them there."""

from __future__ import annotations

from celery.result import AsyncResult

from tests.integration.adopted.place import READY, Place

APP = """
from celery import Task

class Looking(Task):
    def on_success(self, retval, task_id, args, kwargs):
        record("handler", state=self.AsyncResult(task_id).state)

def child_has_connected():
    return "client" in vars(app.backend)

@app.task(name="proj.plain")
def plain():
    return child_has_connected()

@app.task(name="proj.late", acks_late=True)
def late():
    return child_has_connected()

@app.task(name="proj.looking", base=Looking)
def looking():
    return child_has_connected()

@app.task(name="proj.fails")
def fails():
    return 1 / 0
"""
LISTENING = """
@signals.task_success.connect
def succeeded(sender, result, **_):
    record("receiver", state=sender.AsyncResult(sender.request.id).state)
"""


def ask(place: Place, name: str) -> AsyncResult:
    """Send a task, and wait until the client has its result."""
    sent = place.client.send_task(name, queue="celery")
    sent.get(timeout=30, propagate=False)
    return sent


def test_results_that_nobody_looks_at_in_the_child_are_the_master_s_to_store(place: Place) -> None:
    place.write(APP)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        plain = [ask(place, name) for name in ("proj.plain", "proj.late", "proj.plain")]
        looking = ask(place, "proj.looking")
        failed = ask(place, "proj.fails")
        again = ask(place, "proj.plain")

        assert [each.result for each in plain] == [False, False, False]
        assert place.client.backend.client.ttl(f"celery-task-meta-{plain[0].id}") > 86_000
        place.wait_recorded("handler", where=lambda seen: seen["state"] == "SUCCESS")
        assert looking.state == "SUCCESS"
        assert isinstance(failed.result, ZeroDivisionError)
        assert again.result is True, "Celery stored what it had to by its own connection"


def test_a_receiver_finds_the_result_stored(place: Place) -> None:
    place.write(APP + LISTENING)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        ask(place, "proj.plain")

        place.wait_recorded("receiver", where=lambda seen: seen["state"] == "SUCCESS")
