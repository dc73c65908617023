"""Starts no more tasks while too much waits to be published.

Part of ``master.outcome.settlement``, in the master's loop: between the outbox, which says when it is congested and
relieved, and the dispatcher. A message that does not fit costs its task: one acknowledged late goes back to its queue
and would be started again at once, without end while the broker takes nothing. It must never drop a message or end a
task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo.amqp.publish.publisher import Publisher
    from turbo.master.delivery.dispatcher import Dispatcher

logger = logging.getLogger(__name__)

_REASON = "publishing"


class PublishingHold:
    """The hold of one worker."""

    def __init__(self, publisher: Publisher, dispatcher: Dispatcher) -> None:
        self._publisher = publisher
        self._dispatcher = dispatcher
        self._holding = False
        self._times = 0
        publisher.on_relief.add(self._release)

    def look(self) -> None:
        """A message was handed to the outbox: hold the tasks if it is congested."""
        if self._holding or not self._publisher.congested:
            return
        self._holding = True
        self._times += 1
        # Powers of two: said at once and then ever more rarely.
        if self._times & (self._times - 1) == 0:
            logger.warning(
                "%d messages wait for the broker: no task is started before it has taken half of them (%d times yet)",
                self._publisher.backlog,
                self._times,
            )
        self._dispatcher.pause(_REASON)

    def _release(self) -> None:
        if self._holding:
            self._holding = False
            self._dispatcher.resume(_REASON)
