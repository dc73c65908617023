"""Tells children of changed time limits, with each record of such a task.

Limits can change while the worker runs.

Runs in the master. Before it: ``control.limit_commands``. After it: the dispatcher, which lets it pack the records
while any limit is changed, and ``child.intake``, which uses the limits from then on. So a child needs no message of its
own for them, whenever it was forked. It must never change the limits of a task that has started.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from turbo.protocol.task_lookup import TaskLookup
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.master.delivery.ledger import Delivery
    from turbo.policy.task_options import TaskOptions


class TimeLimitChanges:
    """The tasks' options with today's limits, and which of the limits were changed."""

    def __init__(self, tasks: Mapping[str, TaskOptions]) -> None:
        """``tasks``: the options with which the worker has started."""
        #: Today's options by task name; only :meth:`change` and :meth:`declare` write them.
        self.tasks = dict(tasks)
        #: Whether any limit was changed; if not, records need not be packed here.
        self.any = False
        self._changed: TaskLookup[tuple[float | None, float | None]] = TaskLookup()

    def change(self, task: str, hard: float | None, soft: float | None) -> None:
        """Set the limits of a known task, in seconds; None: those of the worker."""
        self.tasks[task] = replace(self.tasks[task], time_limit=hard, soft_time_limit=soft)
        self._changed.put(task, (hard, soft))
        self.any = True

    def declare(self, options: TaskOptions, before: TaskOptions | None) -> None:
        """Use the options with which new code declares a task.

        ``before``: those of the code until now. Limits that were changed stay, if the code has the same ones as before.
        """
        today = self.tasks.get(options.name)
        limits = (options.time_limit, options.soft_time_limit)
        if today is not None and before is not None and limits == (before.time_limit, before.soft_time_limit):
            options = replace(options, time_limit=today.time_limit, soft_time_limit=today.soft_time_limit)
        elif self.any and self._changed.named(options.name) is not None:
            # Children of the old code have the limits of the change, so they are told of these too.
            self._changed.put(options.name, limits)
        self.tasks[options.name] = options

    def pack(self, delivery: Delivery) -> tuple[bytes, ...]:
        """Return the parts of a TASK record, with changed limits if there are any."""
        if delivery.message is not None:
            limits = self._changed.named(delivery.message.task)
        else:
            limits = self._changed.find(delivery.header)
        if limits is None:
            return frames.pack_task(0, delivery.deliver, delivery.header, delivery.body)
        return frames.pack_limited_task(*limits, delivery.deliver, delivery.header, delivery.body)
