"""Results of an adopted app: who stores or sends them, and who finds them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import kombu
import pytest
from celery import Celery
from celery.result import AsyncResult

from tests.harness.rabbitmq import RabbitMQ
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
    sent.get(timeout=60, propagate=False)
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


REPLYING = """
@app.task(name="proj.plain")
def plain(value):
    return value

@app.task(name="proj.late", acks_late=True, bind=True)
def late(self, value):
    self.update_state(state="PROGRESS", meta=value)
    return value

@app.task(name="proj.has_published")
def has_published(value):
    return app.amqp._producer_pool is not None

@app.task(name="proj.fails")
def fails(value):
    raise ValueError(value)
"""


@pytest.fixture
def replying(rabbitmq: RabbitMQ, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose results are replies."""
    return Place(rabbitmq, place.vhost, "rpc://", tmp_path_factory.mktemp("replying"))


def replies_to(app: Celery, calls: list[tuple[str, Any]], states: int) -> list[tuple[Any, ...]]:
    """Send these calls with a queue of their own to reply to; what arrives there, as the client library has it.

    Of a document, the time and the traceback are left out.
    """
    found: list[tuple[Any, ...]] = []
    with app.connection_for_write() as connection:
        queue = kombu.Queue(str(uuid.uuid4()), exclusive=True, auto_delete=True)(connection.default_channel)
        queue.declare()

        def received(body: Any, message: kombu.Message) -> None:
            document = json.loads(message.body)
            kept = {name: value for name, value in document.items() if name not in ("date_done", "traceback")}
            info = {name: message.delivery_info[name] for name in ("exchange", "routing_key", "redelivered")}
            info["routing_key"] = info["routing_key"] == queue.name
            kind = (message.content_type, message.content_encoding, message.headers)
            found.append((list(document), kept, kind, message.properties, info))
            message.ack()

        with connection.Consumer([queue], callbacks=[received], accept=["json"]):
            for number, (name, value) in enumerate(calls):
                app.send_task(name, (value,), queue="celery", task_id=f"task-{number}", reply_to=queue.name)
            while len(found) < states:
                connection.drain_events(timeout=60)
    return sorted(found, key=lambda each: (each[1]["task_id"], each[1]["status"]))


def test_replies_are_celery_s(replying: Place) -> None:
    replying.write(REPLYING)
    values = [None, 1, "\u00e4", [1.5, {"a": None}]]
    calls = [(name, value) for name in ("proj.plain", "proj.late", "proj.fails") for value in values]
    seen = {}
    for by in ("turbo", "celery"):
        with replying.worker("-c", "2", by=by) as worker:
            worker.wait_for_line(READY)
            seen[by] = replies_to(replying.client, calls, len(calls) + len(values))

    assert seen["turbo"] == seen["celery"]


def test_a_child_publishes_no_result_of_a_success(replying: Place) -> None:
    replying.write(REPLYING)
    calls = [("proj.has_published", 1), ("proj.has_published", 2), ("proj.fails", 3), ("proj.has_published", 4)]
    with replying.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        found = replies_to(replying.client, calls, len(calls))

    published = [each[1]["result"] for each in found if each[1]["status"] == "SUCCESS"]
    assert published == [False, False, True]
