"""What a task's options mean for the ack table."""

from __future__ import annotations

from turbo.policy.settling import AckOptions
from turbo.policy.task_options import TaskOptions


def test_a_task_without_options_has_celerys() -> None:
    task = TaskOptions("t")
    assert (task.max_retries, task.default_retry_delay, task.time_limit) == (3, 180, None)
    assert task.ack_options() == AckOptions(False, True, True, False)


def test_they_are_handed_to_the_ack_table() -> None:
    task = TaskOptions("t", acks_late=True, acks_on_failure=False, acks_on_timeout=False, reject_on_worker_lost=True)
    assert task.ack_options() == AckOptions(True, False, False, True)


def test_a_message_that_was_acknowledged_is_not_late() -> None:
    assert TaskOptions("t", acks_late=True).ack_options(acked=True) == AckOptions(False, True, True, False)


def test_a_task_that_is_sent_again_when_lost_is_not_put_back_as_well() -> None:
    task = TaskOptions("t", acks_late=True, reject_on_worker_lost=True, retry_on_worker_lost=True)
    assert task.ack_options() == AckOptions(True, True, True, False)
