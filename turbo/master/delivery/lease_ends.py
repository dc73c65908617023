"""Settles deliveries whose message is in a lease queue.

Runs in the master. Before it: ``master.outcome.settlement`` and ``master.delivery.returning``. After it: the link and
the publisher. To acknowledge, the copy is acknowledged. To requeue, the original message is published to its task
queue, because the copy of a running task counts as the death of its worker. To reject, the message is published to its
task queue with a mark, and the next child rejects it there without running it: the lease queue cannot reach the task
queue's dead-letter exchange. It must never decide the verb.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.amqp.publish.publisher import Published
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb
from turbo.protocol.own_headers import LEASE, REJECTED
from turbo.protocol.properties import decode_header, encode_header

if TYPE_CHECKING:
    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.publish.publisher import Publisher
    from turbo.master.delivery.ledger import Delivery

logger = logging.getLogger(__name__)


class LeaseEnds:
    """Settles the leased deliveries of one worker."""

    def __init__(self, link: BrokerLink, publisher: Publisher) -> None:
        self._link = link
        self._publisher = publisher
        #: Whether a lease queue may still be returning messages to its task queue.
        self.passing_on = False
        #: Epoch and tag of copies whose message is being published to its task queue.
        self.returning: set[tuple[int, int]] = set()

    def settle(self, delivery: Delivery, verb: Verb) -> None:
        """Carry out the verb of a delivery that has a copy's tag."""
        epoch, tag = delivery.epoch, delivery.tag
        if verb is Verb.ACK:
            self._link.ack(epoch, tag)
        else:
            self._return(delivery, epoch, tag, {REJECTED: True} if verb is Verb.REJECT else {})

    def hand_on(self, epoch: int, tag: int) -> None:
        """Have the lease queue return a copy to its task queue."""
        self.passing_on = True
        self._link.reject(epoch, tag, requeue=False)

    def _return(self, delivery: Delivery, epoch: int, tag: int, marks: dict[str, object]) -> None:
        """Publish the message unchanged to its task queue, with ``marks``.

        Settle the copy on the confirm.
        """
        properties, size = decode_header(delivery.header)
        # A suspect remains a suspect: see ``protocol.own_headers``.
        again = delivery.waits_as is State.SUSPECT and not marks
        first: dict[str, object] = {LEASE: ""} if again else {}
        properties.headers = first | (properties.headers or {}) | marks

        def published(result: Published) -> None:
            self.returning.discard((epoch, tag))
            session = self._link.session
            if session is None or session.epoch != epoch:
                return  # the copy went back with its session
            if result is Published.CONFIRMED:
                self._link.ack(epoch, tag)
                return
            logger.error(
                "A message of queue %r could not be returned from its lease (%s); returning its copy, which runs again",
                delivery.queue,
                result.name.lower(),
            )
            self.hand_on(epoch, tag)

        self.returning.add((epoch, tag))
        self._publisher.publish(
            "", delivery.queue, encode_header(properties, size), delivery.body, mandatory=True, done=published
        )
