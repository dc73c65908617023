"""Making sure that queues exist, over a publisher's connection, before something is published to them.

Used by ``amqp.client.publisher`` and ``amqp.client.pipeline``. A publisher never deletes or changes anything: a queue
that exists with other properties is used as it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from turbo.amqp.client import methods
from turbo.amqp.client.connection import CHANNEL, ClientConnection, Refused
from turbo.amqp.delayed_delivery import DELIVERY, Delays, cascade, ways_in
from turbo.amqp.queue_types import without_refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.topology import Binding, Exchange, Queue

logger = logging.getLogger("turbo.amqp.client.publisher")

_PRECONDITION_FAILED: Final = 406


def declare_all(connection: ClientConnection, queues: Iterable[Queue]) -> None:
    """Declare each of ``queues`` that this connection has not declared yet, with its exchange and bindings.

    One that exists with other properties is used as it is, with a warning. Raises ConnectionGone, Refused.
    """
    for queue in queues:
        if queue.name not in connection.declared and not queue.no_declare:
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
    """Declare the queue alone; None when that is done.

    Otherwise what to declare instead, without the argument that is named: the broker refuses it on a quorum queue,
    which a virtual host may make of any.
    """
    frame = methods.declare_queue(
        CHANNEL, queue.name, queue.durable, queue.exclusive, queue.auto_delete, queue.queue_arguments
    )
    refusal = _declare(connection, frame, methods.QUEUE_DECLARE_OK)
    less = None if refusal is None else without_refused(queue, str(refusal))
    if refusal is not None and less is None:
        _note_difference(f"queue {queue.name!r}", refusal)
    return less


def _declare_delays(connection: ClientConnection, delays: Delays) -> None:
    """Declare the cascade in which the broker delays messages, and lead its end to the queue, as its worker does."""
    _declare_exchange(connection, DELIVERY)
    levels, between = cascade(delays.queue_type)
    for level in levels:
        _declare_queue(connection, level)
    outer, inner = ways_in(delays.queue)
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
    """Make one declaration; the refusal when it does not fit. Raises ConnectionGone, Refused for another reason."""
    try:
        connection.ask(frame, answer)
    except Refused as exc:
        if exc.code != _PRECONDITION_FAILED:
            raise
        connection.reopen_channel()
        return exc
    return None


def _note_difference(what: str, refusal: Refused) -> None:
    logger.warning("the %s exists with other properties and is used as it is: %s", what, refusal)
