"""Changes the queues of a running worker: adds, cancels, pauses, resumes.

Runs in the master. Before it: ``control.queue_commands``. After it: ``amqp.consume.link``, which keeps the changes over
reconnects. A cancelled queue's messages that are here still run. A paused queue's unstarted messages return to it, so
this worker holds none of them, and other workers may run them. It must never touch a message that a child has claimed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.topology import Queue

logger = logging.getLogger("celery.worker.consumer.consumer")


class QueueChanges:
    """The queues of one worker."""

    def __init__(self, link: BrokerLink, queues: dict[str, Queue], return_unstarted: Callable[[str], int]) -> None:
        """``queues``: every queue whose messages may be here; the other parts read it.

        ``return_unstarted`` gives back the unstarted messages of a queue; it returns their number.
        """
        self._link = link
        self._return_unstarted = return_unstarted
        self.known = queues

    async def add(self, queue: Queue) -> None:
        """Consume from a queue, paused ones included.

        One that is consumed from stays as it is.
        """
        wanted = self._link.wanted
        if queue.name not in wanted:
            # Before the first delivery: whoever gets it looks here.
            self.known[queue.name] = wanted[queue.name] = queue
        wanted.resume(queue.name)
        await self._link.apply(queue.name)
        logger.info("Started consuming from %s", queue.name)

    async def cancel(self, name: str) -> None:
        """Stop consuming from a queue."""
        logger.info("Canceling queue %s", name)
        self._link.wanted.pop(name, None)
        self._link.wanted.resume(name)
        await self._link.apply(name)

    async def pause(self, name: str) -> bool:
        """Stop running tasks of a queue until it is resumed.

        False if this worker does not consume from it.
        """
        if name not in self._link.wanted:
            return False
        self._link.wanted.pause(name)
        await self._link.apply(name)
        returned = self._return_unstarted(name)
        logger.info("Queue %s is paused; %d messages that had not started return to it", name, returned)
        return True

    async def resume(self, name: str) -> bool:
        """Consume from a paused queue again.

        False if this worker does not consume from it.
        """
        if name not in self._link.wanted:
            return False
        self._link.wanted.resume(name)
        await self._link.apply(name)
        logger.info("Queue %s is resumed", name)
        return True
