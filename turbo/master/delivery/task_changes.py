"""Takes over the options of tasks that the children have imported anew.

Runs in the master, for ``master.children.pool_restart``. Only what the new code declares differently changes: a limit
that remote control has set stays, unless the task's own limit is another one now. A task that is gone is kept, because
old children may still run it. It must never read the app.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.policy import rate_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.delivery.time_limit_changes import TimeLimitChanges
    from turbo.master.outcome.task_events import TaskEvents
    from turbo.policy.task_options import TaskOptions

logger = logging.getLogger("turbo.worker")


class TaskChanges:
    """The options with which the children's code declares the tasks."""

    def __init__(
        self,
        tasks: Mapping[str, TaskOptions],
        time_limits: TimeLimitChanges,
        rate_limits: RateLimits,
        task_events: TaskEvents,
    ) -> None:
        self._declared = dict(tasks)
        self._time_limits = time_limits
        self._rate_limits = rate_limits
        self._task_events = task_events

    def obstacle(self, tasks: Mapping[str, TaskOptions]) -> str:
        """Return why ``tasks`` cannot be taken over; empty if they can.

        Batches are collected here, so they stay as they were at the worker's start.
        """
        names = sorted(
            name
            for name, options in tasks.items()
            if options.batch != (self._declared[name].batch if name in self._declared else None)
        )
        if not names:
            return ""
        return f"the new code changes the batches of {', '.join(names)}, for which the worker must be restarted"

    def take_over(self, tasks: Mapping[str, TaskOptions]) -> dict[str, TaskOptions]:
        """Use the options of ``tasks`` where they are new; return those."""
        before, self._declared = self._declared, dict(tasks)
        changed = {name: options for name, options in tasks.items() if before.get(name) != options}
        for name, options in changed.items():
            was = before.get(name)
            self._time_limits.declare(options, was)
            if was is None or was.rate_limit != options.rate_limit:
                self._rate_limits.change(name, rate_limit.per_second(options.rate_limit))
        self._task_events.set_senders(tasks)
        added, gone = sorted(tasks.keys() - before.keys()), sorted(before.keys() - tasks.keys())
        if added:
            logger.info("Tasks that the new code adds: %s", ", ".join(added))
        if gone:
            logger.warning("Tasks that the new code no longer has, whose messages are refused: %s", ", ".join(gone))
        return changed
