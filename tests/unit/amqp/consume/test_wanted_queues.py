"""The queues to consume, and those of them that are paused."""

from __future__ import annotations

from turbo.amqp.consume.wanted_queues import WantedQueues
from turbo.amqp.topology import task_queue


def test_a_pause_belongs_to_a_queue_that_is_there() -> None:
    wanted = WantedQueues(map(task_queue, "abc"))
    wanted.pause("b")
    wanted.pause("nosuch")
    assert (list(wanted), list(wanted.to_consume()), wanted.paused) == (["a", "b", "c"], ["a", "c"], ["b"])
    del wanted["b"]
    assert wanted.paused == []
    wanted["b"] = task_queue("b")
    wanted.resume("b")
    wanted.resume("nosuch")
    assert (list(wanted.to_consume()), wanted.paused) == (["a", "c", "b"], [])
