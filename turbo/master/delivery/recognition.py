"""Recognises redelivered messages and undoes what a worker has changed in them.

Runs in the master. Before it: ``master.delivery.intake``, for the few messages that the broker marked as redelivered or
a worker published again (``protocol.peek.AGAIN``). After it: ``master.delivery.suspects``, which holds
late-acknowledged ones. It must never see a first delivery, because it decodes headers.

All causes of a redelivery: docs/architecture.md, "Why a task is delivered or run again".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.protocol.deliver import build_deliver, parse_deliver
from turbo.protocol.own_headers import LEASE, REJECTED, ROUTE, route_of
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.republishing import without_delays

if TYPE_CHECKING:
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments


def is_redelivered(deliver: bytes) -> bool:
    """Whether the broker marked this message as redelivered.

    ``deliver`` as in ``protocol.deliver``.
    """
    return deliver[deliver[0] + 9] & 1 != 0


def recognise(delivery: Delivery, failure_documents: FailureDocuments) -> None:
    """Restore a redelivered message; a late-acknowledged one becomes a suspect."""
    message = failure_documents.message(delivery)
    if message is None:
        return
    headers = message.properties.headers or {}
    if LEASE in headers:
        # The queue has it for the first time, workers do not: show the task what it would see without a lease.
        received = replace(parse_deliver(delivery.deliver), redelivered=True)
        delivery.deliver = build_deliver(received, received.exchange, received.routing_key)
    if ROUTE in headers:
        restore(delivery)
    # A message marked as rejected does not run, and must be rejected from its own queue, not from a lease.
    suspect = failure_documents.options(message).acks_late and REJECTED not in headers
    if suspect and delivery.waits_as is State.READY:
        delivery.waits_as = State.SUSPECT
        delivery.move(State.SUSPECT)


def restore(delivery: Delivery) -> None:
    """Restore the route of a message that was in the broker's own queues.

    The header that kept the route is removed.
    """
    properties, size = decode_header(delivery.header)
    route = route_of(properties.headers)
    if route is None:
        return
    properties.headers = {k: v for k, v in without_delays(properties.headers).items() if k != ROUTE}
    delivery.header = encode_header(properties, size)
    delivery.deliver = build_deliver(parse_deliver(delivery.deliver), *route)
    delivery.message = None
