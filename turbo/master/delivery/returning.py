"""Returns unstarted messages to their queue without counting a failed delivery.

Runs in the master. Before it: ``master.main`` at a clean stop, and ``master.delivery.intake`` for a message near its
queue's delivery limit. After it: the link, or the publisher. A quorum queue counts returns and drops or dead-letters a
message past its limit; on RabbitMQ 3.10 and 4.0 every kind of return counts. So the message of a quorum queue is
published again, which restarts its count. It must never acknowledge the original before the copy is confirmed: a worker
killed in between leaves both, a duplicate and never a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.amqp.publish.publisher import Published
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb
from turbo.protocol.own_headers import LEASE
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.publish.publisher import Publisher
    from turbo.amqp.topology import Queue
    from turbo.master.delivery.lease_ends import LeaseEnds
    from turbo.master.delivery.ledger import Delivery, Ledger

#: The header in which a quorum queue counts the deliveries before this one.
COUNT: Final = "x-delivery-count"
_COUNT_BYTES: Final = COUNT.encode()
#: A quorum queue's default delivery limit, by the broker's first version that has one.
_DEFAULT_LIMIT: Final = 20
_DEFAULT_LIMIT_SINCE: Final = (4, 0)
#: The least delivery limit of which one delivery may be spent.
_SPARE: Final = 5


class Returns:
    """Returns the unstarted messages of one worker."""

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publisher,
        queues: Mapping[str, Queue],
        link: BrokerLink,
        lease_ends: LeaseEnds,
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._link = link
        self._lease_ends = lease_ends
        self._queues = queues
        #: Messages to publish again as soon as publishing is possible.
        self._waiting: list[Delivery] = []
        publisher.on_ready.add(self._renew_waiting)
        #: Originals whose copies are not confirmed yet.
        self._leaving: set[Delivery] = set()

    def counted(self, queue: str) -> bool:
        """Whether the broker counts the deliveries of this queue."""
        return self._link.refusals.is_quorum(queue)

    def is_near_limit(self, delivery: Delivery) -> bool:
        """Whether this is the last delivery, or the last but one, that its queue allows."""
        if _COUNT_BYTES not in delivery.header:
            return False
        limit = self._limit(delivery.queue)
        if limit is None or limit < 1:
            return False
        try:
            properties, _size = decode_header(delivery.header)
        except TableError:
            return False
        count = (properties.headers or {}).get(COUNT)
        return isinstance(count, int) and count >= max(1, limit - 1)

    def _limit(self, queue: str) -> int | None:
        limit = self._queues[queue].queue_arguments.get("x-delivery-limit")
        if isinstance(limit, int) and not isinstance(limit, bool):
            return limit
        return _DEFAULT_LIMIT if self._link.server_version >= _DEFAULT_LIMIT_SINCE else None

    def renew(self, delivery: Delivery) -> None:
        """Publish a READY message again instead of running it.

        It waits while publishing is impossible.
        """
        delivery.move(State.HELD)
        self._waiting.append(delivery)
        self._renew_waiting()

    def give_back(self, delivery: Delivery) -> None:
        """Return a message that no child holds; it leaves the ledger now."""
        if delivery.epoch != self._ledger.epoch:
            delivery.move(State.VOID)
            self._ledger.remove(delivery)
            return
        if self.counted(delivery.queue) and self._can_publish:
            delivery.move(State.FINISHING)
            self._publish_again(delivery)
            return
        self._requeue(delivery)

    def offer(self, delivery: Delivery) -> None:
        """Return a message that no child holds to its place, for any worker.

        The count of a quorum queue may grow by one, but never by two.
        """
        limit = self._limit(delivery.queue)
        spare = limit is None or limit >= _SPARE
        if self.counted(delivery.queue) and (_COUNT_BYTES in delivery.header or not spare):
            self.give_back(delivery)
        else:
            self._requeue(delivery)

    def withdraw(self, *, lost: bool) -> list[Delivery]:
        """Give up the waiting deliveries; of a lost session also unconfirmed ones."""
        taken, self._waiting = self._waiting, []
        if lost:
            taken += self._leaving
            self._leaving.clear()
        return taken

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove and return those of ``wanted`` that wait here or have unconfirmed copies."""
        taken = [delivery for delivery in (*self._waiting, *self._leaving) if delivery in wanted]
        self._waiting = [delivery for delivery in self._waiting if delivery not in wanted]
        self._leaving.difference_update(taken)
        return taken

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _can_publish(self) -> bool:
        return self._publisher.connected and not self._publisher.blocked

    def _renew_waiting(self) -> None:
        while self._waiting and self._can_publish:
            delivery = self._waiting.pop(0)
            delivery.move(State.FINISHING)
            self._publish_again(delivery)

    def _publish_again(self, delivery: Delivery) -> None:
        """Publish a copy to the delivery's queue; on its confirm ack the original."""
        try:
            properties, size = decode_header(delivery.header)
        except TableError:
            self._requeue(delivery)
            return
        headers = {k: v for k, v in (properties.headers or {}).items() if k not in _COUNTS}
        if delivery.waits_as is State.SUSPECT and LEASE not in headers:
            headers = {LEASE: "", **headers}
        properties.headers = headers or None
        self._leaving.add(delivery)
        self._publisher.publish(
            "",
            delivery.queue,
            encode_header(properties, size),
            delivery.body,
            mandatory=True,
            done=lambda result: self._copied(delivery, result),
        )

    def _copied(self, delivery: Delivery, result: Published) -> None:
        if delivery not in self._leaving:
            return  # the broker has requeued the original
        self._leaving.discard(delivery)
        if result is not Published.CONFIRMED:
            self._requeue(delivery)
            return
        delivery.move(State.SETTLED)
        self._ledger.remove(delivery)
        self._link.ack(delivery.epoch, delivery.tag)

    def _requeue(self, delivery: Delivery) -> None:
        delivery.move(State.SETTLED)
        self._ledger.remove(delivery)
        if delivery.lease:
            self._lease_ends.settle(delivery, Verb.REQUEUE)
        else:
            self._link.requeue(delivery.epoch, delivery.tag)


#: Headers that a broker adds to a redelivered message. "x-acquired-count" is RabbitMQ 4.3's.
_COUNTS: Final = frozenset({COUNT, "x-acquired-count"})
