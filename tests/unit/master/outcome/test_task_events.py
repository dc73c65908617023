"""The events of one delivery, from its receipt to its settlement."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.master.fakes import BODY, QUEUE, deliver_args
from turbo.exceptions import WorkerLostError
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.task_events import TaskEvents
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_options import TaskOptions
from turbo.protocol.building import build
from turbo.protocol.properties import Properties, encode_header

WHEN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
TASKS = {"t": TaskOptions("t"), "quiet": TaskOptions("quiet", send_events=False)}


class Told:
    """Task events that are on, and what they tell."""

    def __init__(self) -> None:
        self.events = TaskEvents(TASKS, FailureDocuments(TASKS, stores=False), on=True, clock=lambda: 7.5)
        self.told: list[dict[str, Any]] = []
        self.events.on_event.add(self.hear)

    def hear(self, kind: str, members: bytes) -> None:
        event = json.loads(b"{%b}" % members)
        assert event["type"] == kind
        self.told.append(event)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.told]


@pytest.fixture
def told() -> Told:
    return Told()


def delivery_of(task: str = "t", body: bytes = BODY, **options: Any) -> Delivery:
    headers, _body, properties = build("id", task, root_id="root", argsrepr="(1,)", kwargsrepr="{}", **options)
    properties.headers = headers
    return Delivery(1, QUEUE, 1, deliver_args(1, False), encode_header(properties, len(body)), body)


def started(told: Told, delivery: Delivery) -> Delivery:
    told.events.received(delivery)
    for state in (State.DISPATCHED, State.STARTED):
        delivery.move(state)
    told.events.started(delivery)
    return delivery


@pytest.mark.row("EV2", "EV3", "EV4")
def test_received_started_succeeded(told: Told) -> None:
    delivery = started(told, delivery_of())
    told.events.received(delivery)  # as when an ETA is over: it is told once
    told.events.ended(delivery, Ending.SUCCESS, Verb.ACK, (b"\"'r'\"", b'""'), 1_500_000_000)
    assert told.types == ["task-received", "task-started"], "the end waits for the settlement"
    told.events.settled(delivery, Verb.ACK)
    received, begun, ended = told.told
    common = {"uuid": "id", "queue": QUEUE, "timestamp": 7.5}
    assert received == {
        **common, "type": "task-received", "name": "t", "args": "(1,)", "kwargs": "{}", "root_id": "root",
        "parent_id": None, "retries": 0, "eta": None, "expires": None,
    }  # fmt: skip
    assert begun == {**common, "type": "task-started"}
    assert ended == {**common, "type": "task-succeeded", "result": "'r'", "runtime": 1.5}


def test_a_task_that_was_received_before_events_were_on_is_told_whole(told: Told) -> None:
    delivery = delivery_of()
    for state in (State.DISPATCHED, State.STARTED):
        delivery.move(state)
    told.events.started(delivery)
    assert told.types == ["task-received", "task-started"]


@pytest.mark.row("EV15")
@pytest.mark.parametrize("task", ["quiet", "unknown"])
def test_a_task_without_events(told: Told, task: str) -> None:
    delivery = started(told, delivery_of(task))
    told.events.ended(delivery, Ending.SUCCESS, Verb.ACK)
    told.events.revoked(delivery)
    told.events.cancelled(delivery)
    assert not told.told
    assert not delivery.end_events


@pytest.mark.row("EV5")
def test_nobody_knows_the_task(told: Told) -> None:
    delivery = delivery_of("unknown")
    told.events.received(delivery)
    told.events.ended(delivery, Ending.UNKNOWN_TASK, Verb.REJECT)
    told.events.settled(delivery, Verb.REJECT)
    (event,) = told.told
    assert (event["type"], event["uuid"], event["exception"]) == ("task-failed", "id", "NotRegistered('unknown')")


@pytest.mark.row("EV5", "EV8")
def test_it_failed_with_its_child(told: Told) -> None:
    delivery = started(told, delivery_of())
    told.events.lost(delivery, Ending.WORKER_LOST, Verb.REJECT, WorkerLostError("gone"))
    told.events.settled(delivery, Verb.REJECT)
    rejected, failed = told.told[2:]
    assert (rejected["type"], rejected["requeue"]) == ("task-rejected", False)
    assert (failed["type"], failed["exception"]) == ("task-failed", "WorkerLostError('gone')")
    assert failed["traceback"].endswith("WorkerLostError: gone\n")


def test_a_next_attempt_is_told_before_it_is_settled(told: Told) -> None:
    delivery = started(told, delivery_of())
    told.events.ended(delivery, Ending.RETRY, Verb.ACK, (b'"KeyError()"', b'"trace"'))
    assert told.types[2:] == ["task-retried"]
    assert not delivery.end_events


def test_a_success_that_cannot_be_carried_out_is_put_back(told: Told) -> None:
    delivery = started(told, delivery_of())
    told.events.ended(delivery, Ending.SUCCESS, Verb.ACK, (b'"1"', b'""'))
    told.events.settled(delivery, Verb.REQUEUE)
    assert told.types[2:] == ["task-rejected"]
    assert told.told[2]["requeue"] is True


def test_the_outcome_was_stored_before_the_child_died(told: Told) -> None:
    for failed, retried, kind in ((False, False, "task-succeeded"), (True, False, "task-failed")):
        delivery = started(told, delivery_of())
        delivery.own_facts().failed, delivery.own_facts().retried = failed, retried
        told.events.stored(delivery)
        told.events.settled(delivery, Verb.ACK)
        assert told.types[-1] == kind


@pytest.mark.row("EV7", "EV9")
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, (False, None, False)),
        ({"expired": True}, (False, None, True)),
        ({"signum": 15}, (True, 15, False)),
    ],
)
def test_it_was_revoked(told: Told, options: dict[str, Any], fields: tuple[object, ...]) -> None:
    delivery = delivery_of()
    told.events.revoked(delivery, **options)
    told.events.settled(delivery, Verb.ACK)
    (event,) = told.told
    assert (event["terminated"], event["signum"], event["expired"]) == fields
    cancelled = started(told, delivery_of())
    told.events.cancelled(cancelled)
    told.events.settled(cancelled, Verb.REQUEUE)
    assert told.types[-1] == "task-cancelled"


def test_a_message_of_the_old_protocol_names_its_task_in_the_body(told: Told) -> None:
    when = b'"eta": "2030-01-02T03:04:05+00:00", "expires": "2030-01-02T03:05:00+00:00"'
    body = b'{"id": "old", "task": "t", "args": [1], "kwargs": {}, "retries": 2, %b}' % when
    properties = Properties(content_type="application/json", content_encoding="utf-8", headers={})
    delivery = Delivery(1, QUEUE, 1, deliver_args(1, False), encode_header(properties, len(body)), body)
    told.events.received(delivery)
    assert (told.told[0]["uuid"], told.told[0]["name"], told.told[0]["retries"]) == ("old", "t", 2)
    assert (told.told[0]["eta"], told.told[0]["expires"]) == ("2030-01-02T03:04:05+00:00", "2030-01-02T03:05:00+00:00")


def test_what_cannot_be_read_is_not_told(told: Told) -> None:
    for header in (b"", b"\xff" * 40):
        told.events.received(Delivery(1, QUEUE, 1, deliver_args(1, False), header, b"?"))
    assert not told.told


@pytest.mark.row("EV16")
def test_a_task_tells_something_itself(told: Told) -> None:
    told.events.on = False
    half = b'"type":"task-half","uuid":"id","done":{"__type__":"x","__value__":1}'
    told.events.add(delivery_of(), "task-half", half, False)
    told.events.add(delivery_of(), "task-sent", b'"type":"task-sent","uuid":"next","queue":"other"', True)
    told.events.add(None, "task-late", b'"type":"task-late","uuid":"id"', False)
    assert told.told == [
        {"type": "task-half", "uuid": "id", "done": {"__type__": "x", "__value__": 1}, "queue": QUEUE},
        {"type": "task-sent", "uuid": "next", "queue": "other"},
        {"type": "task-late", "uuid": "id"},
    ]


@pytest.mark.row("EV2")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parent_id": "5" * 36},
        {"argsrepr": "('\"\\\\ü\\n',)"},
        {"shadow": "other"},
        {"eta": WHEN, "expires": WHEN, "retries": 3},
    ],
)
def test_any_message_is_told_as_its_headers_say(told: Told, options: dict[str, Any]) -> None:
    for identifier in ("0" * 36, "short", 'a"b', "é" * 20):
        headers, _body, properties = build(identifier, "t", **{"argsrepr": "()", "kwargsrepr": "{}", **options})
        properties.headers, properties.content_type, properties.content_encoding = headers, "application/json", "utf-8"
        header = encode_header(properties, len(BODY))
        told.events.received(Delivery(1, QUEUE, 1, deliver_args(1, False), header, BODY))
        event = told.told.pop()
        expected = {name: headers[name] for name in ("root_id", "parent_id", "retries", "eta", "expires")}
        assert event == {
            **expected, "uuid": identifier, "name": headers["shadow"] or "t", "args": headers["argsrepr"],
            "kwargs": "{}", "queue": QUEUE, "timestamp": 7.5, "type": "task-received",
        }  # fmt: skip


def test_switching() -> None:
    events, heard = TaskEvents({}, FailureDocuments({}, stores=False)), []
    events.on_switched.add(heard.append)
    assert not events.on
    events.switch(True)
    events.switch(False)
    assert heard == [True, False]


def test_events_of_one_millisecond_have_one_time_and_times_are_never_ahead() -> None:
    now = iter((10.0, 10.0004, 10.00099, 10.0011, 10.5, 9.0))
    events = TaskEvents(TASKS, FailureDocuments(TASKS, stores=False), on=True, clock=lambda: next(now))
    times: list[float] = []
    events.on_event.add(lambda _kind, members: times.append(json.loads(b"{%b}" % members)["timestamp"]))
    for _ in range(6):
        events.received(delivery_of())
    assert times == [10.0, 10.0, 10.0, 10.0011, 10.5, 9.0]
