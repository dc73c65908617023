"""Which events tell of an end."""

from __future__ import annotations

import pytest

from turbo.policy.settling import Ending, Verb
from turbo.policy.task_events import types_of_end


@pytest.mark.row("EV4", "EV5", "EV6", "EV7", "EV8")
@pytest.mark.parametrize(
    ("ending", "verb", "acked", "types"),
    [
        (Ending.SUCCESS, Verb.ACK, False, ["task-succeeded"]),
        (Ending.FAILURE, Verb.ACK, True, ["task-failed"]),
        (Ending.FAILURE, Verb.REJECT, False, ["task-rejected", "task-failed"]),
        (Ending.FAILURE, Verb.REJECT, True, ["task-failed"]),
        (Ending.RETRY, Verb.ACK, False, ["task-retried"]),
        (Ending.IGNORE, Verb.ACK, False, []),
        (Ending.REJECT, Verb.ACK, True, ["task-failed"]),
        (Ending.REJECT, Verb.REJECT, False, ["task-failed", "task-rejected"]),
        (Ending.REJECT_REQUEUE, Verb.REQUEUE, False, ["task-rejected"]),
        (Ending.REJECT_REQUEUE, Verb.ACK, True, []),
        (Ending.TIMEOUT, Verb.ACK, True, ["task-failed"]),
        (Ending.TIMEOUT, Verb.REQUEUE, False, ["task-failed", "task-rejected"]),
        (Ending.WORKER_LOST, Verb.ACK, True, ["task-failed"]),
        (Ending.WORKER_LOST, Verb.REJECT, False, ["task-rejected", "task-failed"]),
        (Ending.WORKER_LOST, Verb.REQUEUE, False, ["task-rejected"]),
        (Ending.REVOKED, Verb.ACK, False, ["task-revoked"]),
        (Ending.UNKNOWN_TASK, Verb.REJECT, False, ["task-failed", "task-rejected"]),
        (Ending.INVALID, Verb.REJECT, False, []),
        (Ending.UNDECODABLE, Verb.REJECT, False, []),
    ],
)
def test_as_celery_tells_it(ending: Ending, verb: Verb, acked: bool, types: list[str]) -> None:
    if ending is Ending.UNKNOWN_TASK:
        types = types[:1]  # no task has rejected it
    assert list(types_of_end(ending, verb, acked=acked)) == types


def test_no_end_has_two_of_a_type() -> None:
    for ending in Ending:
        for verb in Verb:
            for acked in (True, False):
                types = types_of_end(ending, verb, acked=acked)
                assert len(types) == len(set(types))
