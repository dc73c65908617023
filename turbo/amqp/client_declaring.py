"""Making sure that queues exist, over a publisher's connection, before something is published to them.

Used by ``amqp.client`` and ``amqp.client_pipeline``. A publisher never deletes or changes anything: a queue that exists
with other properties is used as it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from turbo.amqp import methods
from turbo.amqp.client_connection import CHANNEL, ClientConnection, Refused
from turbo.amqp.delayed_delivery import DELIVERY, Delays, cascade, ways_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.topology import Binding, Exchange, Queue

logger = logging.getLogger("turbo.amqp.client")

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
    _declare(
        connection,
        methods.declare_queue(
            CHANNEL, queue.name, queue.durable, queue.exclusive, queue.auto_delete, queue.queue_arguments
        ),
        methods.QUEUE_DECLARE_OK,
        f"queue {queue.name!r}",
    )
    for binding in bindings:
        _bind(connection, queue.name, binding)


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
    _declare(
        connection,
        methods.declare_exchange(CHANNEL, ex.name, ex.type, ex.durable, ex.auto_delete, ex.arguments),
        methods.EXCHANGE_DECLARE_OK,
        f"exchange {ex.name!r}",
    )


def _bind(connection: ClientConnection, queue: str, binding: Binding) -> None:
    connection.ask(
        methods.bind_queue(CHANNEL, queue, binding.exchange.name, binding.routing_key, binding.arguments),
        methods.QUEUE_BIND_OK,
    )


def _declare(connection: ClientConnection, frame: bytes, answer: int, what: str) -> None:
    try:
        connection.ask(frame, answer)
    except Refused as exc:
        if exc.code != _PRECONDITION_FAILED:
            raise
        logger.warning("the %s exists with other properties and is used as it is: %s", what, exc)
        connection.reopen_channel()
