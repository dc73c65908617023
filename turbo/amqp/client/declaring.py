"""Declares queues over a client's connection before it publishes to them.

Used by ``amqp.client.publisher`` and ``amqp.client.pipeline``, in any process that publishes. It must never delete or
change what exists: a queue that exists with other properties is used as it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from turbo.amqp.client import methods
from turbo.amqp.client.connection import CHANNEL, ClientConnection, Refused
from turbo.amqp.delayed_delivery import DELIVERY, Delays, cascade, delivery_bindings
from turbo.amqp.queue_types import without_refused
from turbo.amqp.topology import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.topology import Binding, Queue

logger = logging.getLogger("turbo.amqp.client.publisher")

_PRECONDITION_FAILED: Final = 406


def declare_all(connection: ClientConnection, queues: Iterable[Queue | Exchange]) -> None:
    """Declare queues and exchanges, except those that this connection has declared.

    Queues are declared with their exchanges and bindings. A queue that exists with other properties is used as it is,
    with a warning. Raises ConnectionGone, Refused.
    """
    for queue in queues:
        if isinstance(queue, Exchange):
            if (name := f"exchange {queue.name}") not in connection.declared and queue.declarable:
                _declare_exchange(connection, queue)
                connection.declared.add(name)
        elif queue.name not in connection.declared and not queue.no_declare:
            if isinstance(queue, Delays):
                _declare_delays(connection, queue)
            else:
                _declare_queue(connection, queue)
            connection.declared.add(queue.name)


def _declare_queue(connection: ClientConnection, queue: Queue) -> None:
    bindings = queue.all_bindings()
    for binding in bindings:
        if binding.exchange.declarable:
            _declare_exchange(connection, binding.exchange)
    dropped = []
    while (less := _declare_with(connection, queue)) is not None:
        queue, argument = less
        dropped.append(argument)
    if dropped:
        logger.warning("queue %r: a quorum queue cannot have %s: declared without", queue.name, " and ".join(dropped))
    for binding in bindings:
        _bind(connection, queue.name, binding)


def _declare_with(connection: ClientConnection, queue: Queue) -> tuple[Queue, str] | None:
    """Declare the queue without its bindings; return None when it exists.

    Otherwise return the queue to declare instead and the argument that was removed from it, which the broker refuses on
    a quorum queue. Any queue may be one: a virtual host may set the default type.
    """
    frame = methods.declare_queue(
        CHANNEL, queue.name, queue.durable, queue.exclusive, queue.auto_delete, queue.queue_arguments
    )
    refusal = _declare(connection, frame, methods.QUEUE_DECLARE_OK)
    less = None if refusal is None else without_refused(queue, str(refusal))
    if refusal is not None and less is None:
        # It exists with other properties.
        _note_difference(f"queue {queue.name!r}", refusal)
    return less


def _declare_delays(connection: ClientConnection, delays: Delays) -> None:
    """Declare the cascade of delay queues and bind its end to the queue."""
    _declare_exchange(connection, DELIVERY)
    levels, between = cascade(delays.queue_type)
    for level in levels:
        _declare_queue(connection, level)
    outer, inner = delivery_bindings(delays.queue)
    for one in (*between, *outer):
        connection.ask(
            methods.bind_exchange(CHANNEL, one.destination, one.source, one.routing_key), methods.EXCHANGE_BIND_OK
        )
    for way in inner:
        _bind(connection, delays.queue.name, way)


def _declare_exchange(connection: ClientConnection, ex: Exchange) -> None:
    frame = methods.declare_exchange(CHANNEL, ex.name, ex.type, ex.durable, ex.auto_delete, ex.arguments)
    refusal = _declare(connection, frame, methods.EXCHANGE_DECLARE_OK)
    if refusal is not None:
        _note_difference(f"exchange {ex.name!r}", refusal)


def _bind(connection: ClientConnection, queue: str, binding: Binding) -> None:
    connection.ask(
        methods.bind_queue(CHANNEL, queue, binding.exchange.name, binding.routing_key, binding.arguments),
        methods.QUEUE_BIND_OK,
    )


def _declare(connection: ClientConnection, frame: bytes, answer: int) -> Refused | None:
    """Declare one thing; return the refusal if it exists with other properties.

    Raises ConnectionGone, and Refused for any other refusal.
    """
    try:
        connection.ask(frame, answer)
    except Refused as exc:
        if exc.code != _PRECONDITION_FAILED:
            raise
        # The broker closes the channel with a refusal, so the next declaration needs a new one.
        connection.reopen_channel()
        return exc
    return None


def _note_difference(what: str, refusal: Refused) -> None:
    logger.warning("the %s exists with other properties and is used as it is: %s", what, refusal)
