"""The commands that change tasks' limits: rate_limit and time_limit.

Run on the master's loop for ``control.service``; ``master.delivery.rate_limits`` and ``time_limit_changes`` carry them
out. Replies are those of Celery, word for word, because tools read them. They must never store anything: a restarted
worker has the limits of its app again.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from turbo.log_format import printable
from turbo.policy import rate_limit as rates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.delivery.time_limit_changes import TimeLimitChanges

    Reply = dict[str, str]

logger = logging.getLogger("celery.worker.control")


class LimitCommands:
    """Answers the commands about limits, for one worker."""

    def __init__(
        self,
        rate_limits: RateLimits,
        time_limits: TimeLimitChanges,
        dispatcher: Dispatcher,
        show_in_app: Callable[[str, Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """``show_in_app`` sets attributes of the app's task, which ``registered`` shows.

        The reply waits for it.
        """
        self._rate_limits = rate_limits
        self._time_limits = time_limits
        self._dispatcher = dispatcher
        self._show_in_app = show_in_app

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the commands by name."""
        return {"rate_limit": self.rate_limit, "time_limit": self.time_limit}

    def rate_limit(self, task_name: str, rate_limit: Any, **_: Any) -> Reply | Awaitable[Reply]:
        """Limit how often a task starts: "100/m", "10/s", a number per second.

        0 or None lifts the limit.
        """
        try:
            rate = rates.per_second(rate_limit)
        except ValueError as error:
            return {"error": f"Invalid rate limit string: {error!r}"}
        if task_name not in self._time_limits.tasks:
            return _unknown(task_name)
        self._rate_limits.change(task_name, rate)
        if rate_limit:
            logger.info("Remote control has set the rate limit of task %s to %.100s", task_name, rate_limit)
            reply = {"ok": "new rate limit set successfully"}
        else:
            logger.info("Remote control has lifted the rate limit of task %s", task_name)
            reply = {"ok": "rate limit disabled successfully"}
        return self._after(task_name, {"rate_limit": rate_limit}, reply)

    def time_limit(
        self, task_name: str, hard: float | None = None, soft: float | None = None, **_: Any
    ) -> Reply | Awaitable[Reply]:
        """Set a task's limits in seconds, for runs that begin from now on.

        None: those of the worker.
        """
        if task_name not in self._time_limits.tasks:
            return _unknown(task_name)
        for seconds in (hard, soft):
            if not (seconds is None or (isinstance(seconds, (int, float)) and 0 <= seconds < math.inf)):
                raise ValueError(f"a time limit is a number of seconds, not {seconds!r:.40}")
        self._time_limits.change(task_name, hard, soft)
        # What children hold ahead and have not claimed is packed again, with the new limits.
        self._dispatcher.resubmit(self._dispatcher.withdraw())
        self._dispatcher.balance()
        logger.info("Remote control has set the time limits of task %s: soft %s, hard %s", task_name, soft, hard)
        reply = {"ok": "time limits set successfully"}
        return self._after(task_name, {"time_limit": hard, "soft_time_limit": soft}, reply)

    async def _after(self, task_name: str, attributes: Mapping[str, Any], reply: Reply) -> Reply:
        await self._show_in_app(task_name, attributes)
        return reply


def _unknown(task_name: object) -> Reply:
    logger.error("Remote control asked for a limit of task %s, which this worker does not know", printable(task_name))
    return {"error": "unknown task"}
