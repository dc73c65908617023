"""Changes the queues of a running worker: adds, cancels, pauses, resumes.

Runs in the master. Before it: ``control.queue_commands``. After it: ``amqp.consume.link``, which keeps the changes over
reconnects. A cancelled queue's messages that are here still run. It must never touch a message that a child has
claimed.

A paused queue's consumer is cancelled and its unstarted messages return to it, so this worker holds none of them, and
other workers may run them. Three kinds of queues keep their consumer instead, because cancelling would do more than
pause: with a single active consumer or an exclusive one it would hand the queue to another worker, and an auto-delete
queue would be gone. Their messages here, and those that the window still lets in, are held until the queue is resumed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.topology import Queue
    from turbo.master.delivery.waiting_places import WaitingPlaces

logger = logging.getLogger("celery.worker.consumer.consumer")


class QueueChanges:
    """The queues of one worker."""

    def __init__(
        self, link: BrokerLink, queues: dict[str, Queue], places: WaitingPlaces, take_up: Callable[[str], None]
    ) -> None:
        """``queues``: every queue whose messages may be here; the other parts read it.

        ``take_up`` takes in what was held of a queue.
        """
        self._link = link
        self._places = places
        self._take_up = take_up
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
        self._take_up(queue.name)
        await self._link.apply(queue.name)
        logger.info("Started consuming from %s", queue.name)

    async def cancel(self, name: str) -> None:
        """Stop consuming from a queue. What was held because it was paused returns to it.

        That ends the pause: a delivery that was on its way runs, as that of any cancelled queue.
        """
        logger.info("Canceling queue %s", name)
        wanted = self._link.wanted
        was_paused = name in wanted.paused
        wanted.pop(name, None)
        wanted.resume(name)
        await self._link.apply(name)
        if name in wanted:
            return  # it was added again in the meantime
        if was_paused:
            self._places.return_unstarted(name)
        self._take_up(name)

    async def pause(self, name: str) -> bool:
        """Stop running tasks of a queue until it is resumed.

        False if this worker does not consume from it.
        """
        if name not in self._link.wanted:
            return False
        self._link.wanted.pause(name)
        if self._link.wanted[name].keeps_consumer:
            held = self._places.hold_unstarted(name)
            logger.info("Queue %s is paused; its consumer stays, and %d messages here are held", name, held)
            return True
        await self._link.apply(name)
        returned = self._places.return_unstarted(name)
        logger.info("Queue %s is paused; %d messages that had not started return to it", name, returned)
        return True

    async def resume(self, name: str) -> bool:
        """Consume from a paused queue again.

        False if this worker does not consume from it.
        """
        if name not in self._link.wanted:
            return False
        self._link.wanted.resume(name)
        self._take_up(name)
        await self._link.apply(name)
        logger.info("Queue %s is resumed", name)
        return True
