"""The commands that act on the worker: shutdown, heartbeat, events.

Run on the master's loop for ``control.service``. They must never block it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from turbo.control.registry import NO_REPLY
from turbo.log_format import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.control.events import Events
    from turbo.master.outcome.task_events import TaskEvents

logger = logging.getLogger("celery.worker.control")


class WorkerCommands:
    """Answers the commands about one worker."""

    def __init__(self, shut_down: Callable[[], None], events: Events, task_events: TaskEvents) -> None:
        self._shut_down = shut_down
        self._events = events
        self._task_events = task_events

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the commands by name."""
        return {
            "shutdown": self.shutdown,
            "heartbeat": self.heartbeat,
            "enable_events": self.enable_events,
            "disable_events": self.disable_events,
            "election": self.election,
        }

    def shutdown(self, msg: str = "Got shutdown from remote", **_: Any) -> Any:
        """Start a warm shutdown. As with Celery, there is no reply."""
        logger.warning("%s", printable(msg, 500))
        self._shut_down()
        return NO_REPLY

    def heartbeat(self, **_: Any) -> None:
        """Send a heartbeat event now."""
        self._events.send_heartbeat(freq=5)

    def enable_events(self) -> dict[str, str]:
        """Enable task events."""
        if self._task_events.on:
            return {"ok": "task events already enabled"}
        self._task_events.switch(True)
        logger.info("Events of group {task} enabled by remote.")
        return {"ok": "task events enabled"}

    def disable_events(self) -> dict[str, str]:
        """Disable task events."""
        if not self._task_events.on:
            return {"ok": "task events already disabled"}
        self._task_events.switch(False)
        logger.info("Events of group {task} disabled by remote.")
        return {"ok": "task events disabled"}

    def election(self, **_: Any) -> None:
        """Ignore elections, as a Celery worker without gossip does."""
