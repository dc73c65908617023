"""Whether a failure that the master finds is stored, and how its message is settled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.fakes import BODY, QUEUE, deliver_args, header_of
from turbo.exceptions import TimeLimitExceeded, WorkerLostError
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_options import TaskOptions
from turbo.protocol.properties import decode_header, encode_header

LOST = WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL).")


def end(ending: Ending, error: Exception, headers: dict[str, Any] | None = None, **options: Any) -> tuple[Verb, bool]:
    """Return the verb of a task that ends so, and whether its failure is stored."""
    properties, _size = decode_header(header_of("id", "t"))
    properties.headers = {**(properties.headers or {}), **(headers or {})}
    delivery = Delivery(1, QUEUE, 1, deliver_args(1, False), encode_header(properties, len(BODY)), BODY)
    documents = FailureDocuments({"t": TaskOptions("t", acks_late=True, **options)}, stores=True)
    verb, document = documents.failure(delivery, ending, error)
    return verb, document is not None


@pytest.mark.parametrize(("headers", "options", "stored"), [
    ({}, {}, True),
    ({}, {"ignore_result": True}, False),
    ({}, {"ignore_result": True, "store_errors_even_if_ignored": True}, True),
    ({"ignore_result": True}, {}, False),
    ({"ignore_result": False}, {"ignore_result": True}, True),
    ({"ignore_result": True}, {"store_errors_even_if_ignored": True}, True),
])  # fmt: skip
def test_the_failure_of_a_task_whose_result_is_ignored_is_not_stored(
    headers: dict[str, Any], options: dict[str, Any], stored: bool
) -> None:
    assert end(Ending.WORKER_LOST, LOST, headers, **options) == (Verb.ACK, stored)


def test_a_task_that_runs_again_after_its_child_died_has_not_failed() -> None:
    assert end(Ending.WORKER_LOST, LOST, reject_on_worker_lost=True) == (Verb.REQUEUE, False)


def test_a_task_that_runs_again_after_its_hard_limit_has_failed_this_time() -> None:
    assert end(Ending.TIMEOUT, TimeLimitExceeded(5), acks_on_timeout=False) == (Verb.REQUEUE, True)
