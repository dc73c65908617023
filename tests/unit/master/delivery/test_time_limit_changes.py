"""Limits that were changed travel with the records of their task, and with those of no other."""

from __future__ import annotations

import pytest

from tests.unit.master.fakes import BODY, deliver_args, header_of
from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.time_limit_changes import TimeLimitChanges
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.policy.task_options import TaskOptions
from turbo.ring import frames

TASKS = {"a": TaskOptions("a", time_limit=9.0), "b": TaskOptions("b")}


def delivery(task: str) -> Delivery:
    return Delivery(1, "q", 1, deliver_args(1, False), header_of("id", task), BODY)


@pytest.mark.row("RC20")
def test_only_records_of_the_changed_task_carry_limits() -> None:
    changes = TimeLimitChanges(TASKS)
    assert not changes.any
    changes.change("a", 5, None)
    assert changes.any
    record = b"".join(changes.pack(delivery("a")))
    assert frames.unpack_task(record)[0] == frames.NEW_LIMITS
    assert frames.unpack_limits(record) == (5.0, None)
    assert changes.pack(delivery("b")) == frames.pack_task(0, deliver_args(1, False), header_of("id", "b"), BODY)


def test_messages_whose_headers_are_decoded_are_found_by_name() -> None:
    changes = TimeLimitChanges(TASKS)
    changes.change("b", None, 2.5)
    known = delivery("b")
    assert FailureDocuments(TASKS, stores=True).message(known) is not None
    assert frames.unpack_limits(b"".join(changes.pack(known))) == (None, 2.5)


def test_the_options_say_what_holds_today() -> None:
    changes = TimeLimitChanges(TASKS)
    changes.change("a", None, 3.0)
    assert (changes.tasks["a"].time_limit, changes.tasks["a"].soft_time_limit) == (None, 3.0)
    assert TASKS["a"].time_limit == 9.0
    with pytest.raises(KeyError):
        changes.change("nosuch", 1.0, 1.0)
