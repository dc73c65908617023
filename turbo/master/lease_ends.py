"""Settles deliveries whose message a lease queue holds.

Runs in the master. Before it: ``master.settlement`` and ``master.returning``. After it: the link, and the publisher.
Acknowledging the copy takes it out of the lease queue. Requeueing rejects it, and the lease queue dead-letters it to
the task queue. Rejecting cannot reach the task queue's own dead-letter exchange from a lease queue: a copy marked as
rejected goes back to the task queue, and whichever child gets it rejects it there without running it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.amqp.outbox import Published
from turbo.policy.settling import Verb
from turbo.protocol.own_headers import REJECTED
from turbo.protocol.properties import decode_header, encode_header

if TYPE_CHECKING:
    from turbo.amqp.link import BrokerLink
    from turbo.amqp.outbox import Outbox
    from turbo.master.inflight import Delivery

logger = logging.getLogger(__name__)


class LeaseEnds:
    """The ends of one worker's leased deliveries."""

    def __init__(self, link: BrokerLink, outbox: Outbox) -> None:
        self._link = link
        self._outbox = outbox
        #: A lease queue is perhaps still passing messages on to its task queue.
        self.passing_on = False

    def settle(self, delivery: Delivery, verb: Verb) -> None:
        """Carry out the verb of a delivery whose tag is a copy's."""
        epoch, tag = delivery.epoch, delivery.tag
        if verb is Verb.ACK:
            self._link.ack(epoch, tag)
        elif verb is Verb.REQUEUE:
            self.hand_on(epoch, tag)
        else:
            self._reject(delivery, epoch, tag)

    def hand_on(self, epoch: int, tag: int) -> None:
        """Let the lease queue send a copy to its task queue."""
        self.passing_on = True
        self._link.reject(epoch, tag, requeue=False)

    def _reject(self, delivery: Delivery, epoch: int, tag: int) -> None:
        properties, size = decode_header(delivery.header)
        properties.headers = {**(properties.headers or {}), REJECTED: True}

        def published(result: Published) -> None:
            if result is Published.CONFIRMED:
                self._link.ack(epoch, tag)
                return
            logger.error(
                "A rejected message of queue %r could not be returned to be dead-lettered (%s); it runs again",
                delivery.queue,
                result.name.lower(),
            )
            self.hand_on(epoch, tag)

        self._outbox.publish(
            "", delivery.queue, encode_header(properties, size), delivery.body, mandatory=True, done=published
        )
