"""The state of a cluster is the one that Celery's class makes of the same events, in whatever order they come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from celery.events.state import State as CelerysState

from turbo.events.state import State

FIELDS = (
    "state",
    "name",
    "args",
    "result",
    "received",
    "started",
    "succeeded",
    "retried",
    "failed",
    "runtime",
    "clock",
)
NOW = 4e9


def _event(kind: str, clock: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind, "uuid": "an-id", "hostname": "w@h", "pid": 7, "clock": clock, "timestamp": NOW + clock,
        "local_received": NOW + clock, **fields,
    }  # fmt: skip


LIFE = [
    _event("task-sent", 1, name="proj.add", args="(1,)", hostname="client", queue="q"),
    _event("task-received", 2, name="proj.add", args="(1, 2)", retries=0),
    _event("task-started", 3),
    _event("task-succeeded", 4, result="3", runtime=0.5),
]
RETRIED = [
    _event("task-received", 1, name="proj.add", args="()"),
    _event("task-retried", 2, exception="KeyError()"),
    _event("task-received", 3, name="proj.add", args="()", retries=1),
    _event("task-failed", 4, exception="ValueError()"),
]


@pytest.mark.parametrize("events", [LIFE, RETRIED], ids=["done", "retried"])
def test_a_task_is_what_celery_makes_of_its_events(events: list[dict[str, Any]]) -> None:
    for order in itertools.permutations(events):
        theirs, ours = CelerysState(), State()
        for event in order:
            theirs.event(dict(event))
            ours.event(dict(event))
        wanted, task = theirs.tasks["an-id"], ours.tasks["an-id"]
        assert [getattr(task, name) for name in FIELDS] == [getattr(wanted, name) for name in FIELDS]
        assert task.info() == wanted.info()
        assert (task.client, task.origin, repr(task)) == (wanted.client, wanted.origin, repr(wanted))
        assert (ours.task_count, ours.task_types()) == (theirs.task_count, theirs.task_types())


def test_workers_join_beat_and_leave() -> None:
    joined: list[Any] = []
    left: list[Any] = []
    state = State(on_node_join=joined.append, on_node_leave=left.append)
    fields = {"hostname": "w@h", "pid": 7, "timestamp": NOW, "local_received": NOW, "freq": 2.0, "active": 3}
    state.event({"type": "worker-online", **fields})
    state.event({"type": "worker-heartbeat", **fields})
    (worker,) = state.alive_workers()
    assert (worker.hostname, worker.id, worker.active, worker.heartbeat_expires) == ("w@h", "w@h.7", 3, NOW + 4)
    state.event({"type": "worker-offline", **fields})
    assert list(state.alive_workers()) == [] and not state.workers
    assert joined == left == [worker]


def test_tasks_come_by_time_name_and_worker() -> None:
    state = State()
    for number, (name, node) in enumerate([("a", "one"), ("b", "one"), ("a", "two")]):
        state.event(_event("task-received", number, uuid=str(number), name=name, hostname=node))
    assert [uuid for uuid, _ in state.tasks_by_time()] == ["2", "1", "0"]
    assert [uuid for uuid, _ in state.tasks_by_type("a")] == ["2", "0"]
    assert [uuid for uuid, _ in state.tasks_by_worker("one", limit=1)] == ["1"]


def test_the_oldest_tasks_are_dropped_and_those_that_ended_are_cleared() -> None:
    state = State(max_tasks_in_memory=2)
    for number in range(3):
        state.event(_event("task-started", number, uuid=str(number)))
    assert list(state.tasks) == ["1", "2"]
    state.event(_event("task-succeeded", 9, uuid="1"))
    state.clear_tasks()
    assert [uuid for uuid, _ in state.tasks_by_time()] == ["2"]


def test_other_events_are_counted_and_passed_on() -> None:
    seen: list[str] = []
    state = State(callback=lambda _, event: seen.append(event["type"]))
    assert state.event({"type": "custom-thing"}) is None
    assert (seen, state.event_count) == (["custom-thing"], 1)
