"""Parks messages with a far ETA in the broker's delay queues.

Runs in the master. Before it: ``master.delivery.intake``, which finds a message due in minutes or more. After it: the
publisher, and the delay queues (``amqp.delayed_delivery``), which return the message shortly before it is due. Parking
costs one publish and then uses no lease, no delivery count and no memory here. It must never acknowledge the original
before the parked copy is confirmed. A worker killed in between leaves both: a duplicate, never a loss.

A header keeps the message's exchange and routing key; the delivery gets them again when it returns.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from turbo.amqp.consume.own_queues import OwnQueues
from turbo.amqp.delayed_delivery import first_level, parking_key
from turbo.amqp.publish.publisher import Published
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.own_headers import ROUTE
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.republishing import without_delays
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Mapping

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.publish.publisher import Publisher
    from turbo.amqp.topology import Queue
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.outcome.settlement import Settlement

logger = logging.getLogger(__name__)

#: Seconds before its ETA at which a parked message returns: the delay queues count whole seconds.
_EARLY: Final = 2.0


class Parking:
    """The messages of one worker that are being parked."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        publisher: Publisher,
        shelf: EtaShelf,
        queues: Mapping[str, Queue],
        link: BrokerLink,
        settlement: Settlement,
        *,
        after: float | None,
    ) -> None:
        """``after``: messages due in more than this many seconds are parked.

        None parks none.
        """
        self._loop = loop
        self._ledger = ledger
        self._publisher = publisher
        self._shelf = shelf
        self._own = OwnQueues(link)
        self._settlement = settlement
        self._after = after
        self._queues = queues
        #: Queues of this session that the delay queues route to, and those for which the broker refused that.
        self._open: set[str] = set()
        self._refused: set[str] = set()
        #: Messages waiting for the delay queues of their queue to be declared.
        self._waiting: dict[str, list[Delivery]] = {}
        self._leaving: set[Delivery] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Number of messages parked.
        self.parked = 0

    def park(self, delivery: Delivery) -> bool:
        """Take a HELD delivery with ``due`` set; False when this worker has to hold it."""
        name = delivery.queue
        if self._after is None or delivery.due - time.time() <= self._after + _EARLY:
            return False
        queue = self._queues[name]
        if name in self._refused or queue.temporary or not queue.durable:
            return False
        if name in self._open:
            self._leave(delivery)
            return True
        waiting = self._waiting.setdefault(name, [])
        waiting.append(delivery)
        if len(waiting) == 1:
            task = self._loop.create_task(self._prepare(name), name="parking")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def withdraw(self, *, lost: bool) -> list[Delivery]:
        """Give up the waiting deliveries; of a lost session also those published."""
        taken = [delivery for held in self._waiting.values() for delivery in held]
        self._waiting.clear()
        if lost:
            taken += self._leaving
            self._leaving.clear()
            self._open.clear()
            self._refused.clear()
        return [delivery for delivery in taken if delivery.state is State.HELD]

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove and return those of ``wanted`` that wait here.

        Published ones return when they are due.
        """
        taken: list[Delivery] = []
        for name, held in self._waiting.items():
            taken += [delivery for delivery in held if delivery in wanted]
            self._waiting[name] = [delivery for delivery in held if delivery not in wanted]
        return taken

    # -- inside ------------------------------------------------------------------------------------------

    async def _prepare(self, name: str) -> None:
        """Route the delay queues to a queue, then publish the messages that wait for it."""
        ready = await self._own.open_parking(self._queues[name])
        if ready:
            self._open.add(name)
        elif name in self._waiting:
            self._refused.add(name)
            logger.warning(
                "Queue %r: the broker has no delay queues for it, so messages with a far ETA are held in this worker",
                name,
            )
        for delivery in self._waiting.pop(name, ()):
            if delivery.state is not State.HELD:
                continue
            if ready:
                self._leave(delivery)
            else:
                self._shelf.hold(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """Publish the copy to be parked."""
        key = parking_key(delivery.due - time.time() - _EARLY, delivery.queue)
        try:
            properties, size = decode_header(delivery.header)
        except TableError:
            key = None
        if key is None:
            self._shelf.hold(delivery)
            return
        origin = parse_deliver(delivery.deliver)
        headers = without_delays(properties.headers)
        headers.setdefault(ROUTE, [origin.exchange, origin.routing_key])
        properties.headers = headers
        # An expiration would return the message early. The ``expires`` header says the same and is checked later.
        properties.expiration = None
        self._leaving.add(delivery)
        self._publisher.publish(
            first_level(),
            key,
            encode_header(properties, size),
            delivery.body,
            mandatory=True,
            done=lambda result: self._left(delivery, result),
        )

    def _left(self, delivery: Delivery, result: Published) -> None:
        if delivery not in self._leaving:
            return
        self._leaving.discard(delivery)
        if result is Published.CONFIRMED:
            self.parked += 1
            self._settlement.finish(delivery, Verb.ACK, None)
            return
        if delivery.queue not in self._refused:
            self._refused.add(delivery.queue)
            logger.warning(
                "A message of queue %r could not be parked in the broker (%s): those with a far ETA are held in this "
                "worker until it reconnects",
                delivery.queue,
                result.name.lower(),
            )
        self._shelf.hold(delivery)
