"""Stops starting tasks while too many messages wait to be published.

Part of ``master.outcome.settlement``, in the master's loop: between the publisher, which reports when it is congested
and relieved, and the dispatcher. A message that does not fit costs its task: a late-acknowledged task would return to
its queue and start again at once, endlessly while the broker accepts nothing. It must never drop a message or end a
task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo.amqp.publish.publisher import Publisher
    from turbo.master.outcome.interfaces import DispatcherLike

logger = logging.getLogger(__name__)

_REASON = "publishing"


class PublishingHold:
    """The hold on one worker's tasks."""

    def __init__(self, publisher: Publisher, dispatcher: DispatcherLike) -> None:
        self._publisher = publisher
        self._dispatcher = dispatcher
        self._holding = False
        self._times = 0
        publisher.on_relief.add(self._release)

    def look(self) -> None:
        """Hold the tasks if the publisher is congested; called after each message for it."""
        if self._holding or not self._publisher.congested:
            return
        self._holding = True
        self._times += 1
        # Logged at powers of two: at once, then ever more rarely.
        if self._times & (self._times - 1) == 0:
            logger.warning(
                "%d messages wait for the broker; starting no task until it has taken half of them (%d times so far)",
                self._publisher.backlog,
                self._times,
            )
        self._dispatcher.pause(_REASON)

    def _release(self) -> None:
        if self._holding:
            self._holding = False
            self._dispatcher.resume(_REASON)
