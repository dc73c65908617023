"""Bounds how often one message may kill its child.

Runs in the master. Before it: ``master.children.dead_child``, when the ack table says requeue. After it: the publisher
and the settlement. A plain requeue carries no count on a classic queue, and a quorum queue also counts when a prefetch
window changes. So the count travels in a header: the message is published again to its own queue with
``x-turbo-deliveries`` one higher and the reason beside it. A copy whose count has reached the bound is not started
again: the child that gets it rejects it to the queue's dead-letter exchange, where count and reason can be read, and
FAILURE is stored. The original must never be acknowledged before the copy is confirmed.

A worker killed before the confirm leaves the original with the old count; after it, both may exist, which is the
at-least-once that ``acks_late`` promises.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo import states
from turbo.policy.poison import DELIVERIES, REASON, deaths, exhausted
from turbo.policy.settling import Verb
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.table import TableError
from turbo.ring.frames import PublishRequest

if TYPE_CHECKING:
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.settlement import Settlement
    from turbo.ring.frames import StoreRequest

logger = logging.getLogger(__name__)


class Poison:
    """Counts deaths in the message itself."""

    def __init__(self, settlement: Settlement, failure_documents: FailureDocuments, *, max_deliveries: int) -> None:
        self._settlement = settlement
        self._failure_documents = failure_documents
        self.max_deliveries = max_deliveries

    def return_unrun(self, delivery: Delivery) -> None:
        """Publish an acknowledged message whose task never ran back to its queue.

        This worker ends. If it cannot be published, FAILURE is stored instead.
        """
        again = PublishRequest("", delivery.queue, delivery.header, delivery.body, True)
        self._settlement.publish(delivery, again, essential=True)
        self._settlement.finish(delivery, Verb.ACK, None)

    def return_after_death(self, delivery: Delivery, reason: str, store: StoreRequest | None) -> None:
        """Publish the message again with a higher count.

        Settle the original once that is confirmed. ``store`` is the document of this death, when one is stored although
        the message returns.
        """
        try:
            properties, size = decode_header(delivery.header)
        except TableError as error:
            logger.error("A message that killed its child has unreadable headers; rejecting it: %s", error)
            self._settlement.finish(delivery, Verb.REJECT, store)
            return
        headers = dict(properties.headers or {})
        if deaths(headers) >= self.max_deliveries:
            self._end_given_up(delivery, exhausted(headers))
            return
        count = deaths(headers) + 1
        headers[DELIVERIES] = count
        headers[REASON] = reason
        properties.headers = headers
        if count >= self.max_deliveries:
            message = self._failure_documents.message(delivery)
            logger.error(
                "Task %s has killed its child %d times and is dead-lettered: %s",
                message.label if message else "(unreadable)[?]",
                count,
                reason,
            )
        self._settlement.publish(
            delivery,
            PublishRequest("", delivery.queue, encode_header(properties, size), delivery.body, True),
            essential=True,
        )
        self._settlement.finish(delivery, Verb.ACK, store)

    def _end_given_up(self, delivery: Delivery, error: BaseException) -> None:
        """End a message whose child died while it reported the message as given up.

        Do not report again.
        """
        message = self._failure_documents.message(delivery)
        document = self._failure_documents.document(
            message, self._failure_documents.options(message), states.FAILURE, error
        )
        self._settlement.finish(delivery, Verb.REJECT, document)
