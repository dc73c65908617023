"""Options of tasks that were imported anew: what changes, and what remote control had set before."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.master.delivery.task_changes import TaskChanges
from turbo.master.delivery.time_limit_changes import TimeLimitChanges
from turbo.policy.batching import Batch
from turbo.policy.task_options import TaskOptions


class Recorder:
    """Takes rates and the names of senders."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}
        self.senders: set[str] = set()

    def change(self, task: str, rate: float) -> None:
        self.rates[task] = rate

    def set_senders(self, tasks: dict[str, TaskOptions]) -> None:
        self.senders = {name for name, options in tasks.items() if options.send_events}


def tasks(*options: TaskOptions) -> dict[str, TaskOptions]:
    return {each.name: each for each in options}


@pytest.mark.row("RC25")
def test_only_what_is_declared_in_another_way_changes() -> None:
    before = tasks(TaskOptions("same", time_limit=5), TaskOptions("other", rate_limit="1/s"), TaskOptions("gone"))
    limits, recorder = TimeLimitChanges(before), Recorder()
    anything: Any = recorder
    changes = TaskChanges(before, limits, anything, anything)
    limits.change("same", 9.0, None)
    after = tasks(
        TaskOptions("same", time_limit=5, acks_late=True),
        TaskOptions("other", rate_limit="2/s", send_events=False),
        TaskOptions("new", rate_limit="60/m"),
    )
    assert changes.take_over(after) == after
    assert limits.tasks["same"] == TaskOptions("same", time_limit=9.0, acks_late=True), "remote control's limit stays"
    assert limits.tasks["gone"] == TaskOptions("gone"), "an old child may still run it"
    assert recorder.rates == {"other": 2.0, "new": 1.0}
    assert recorder.senders == {"same", "new"}
    assert changes.take_over(after) == {}


def test_a_limit_of_the_new_code_replaces_that_of_remote_control() -> None:
    before = tasks(TaskOptions("task", time_limit=5))
    limits, recorder = TimeLimitChanges(before), Recorder()
    anything: Any = recorder
    changes = TaskChanges(before, limits, anything, anything)
    limits.change("task", 9.0, 8.0)
    changes.take_over(tasks(TaskOptions("task", time_limit=7)))
    assert (limits.tasks["task"].time_limit, limits.tasks["task"].soft_time_limit) == (7, None)


def test_another_way_of_batching_needs_another_worker() -> None:
    batch = Batch(10, 1.0)
    before = tasks(TaskOptions("same", batch=batch), TaskOptions("plain"))
    nothing: Any = None
    changes = TaskChanges(before, nothing, nothing, nothing)
    assert changes.obstacle(before) == ""
    assert changes.obstacle(tasks(TaskOptions("plain"))) == "", "a task that is gone is no obstacle"
    for changed in (TaskOptions("same"), TaskOptions("plain", batch=batch), TaskOptions("new", batch=batch)):
        assert f"the batches of {changed.name}, for which" in changes.obstacle(tasks(changed))
