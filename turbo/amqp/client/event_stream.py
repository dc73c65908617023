"""Receives the events that workers send to monitors.

Used by ``events.receiver`` and ``turbo events``, in programs that watch. The queue is this connection's own and ends
with it. It must never decode an event, which anybody may have sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from turbo.amqp.client.mailbox import Packet
from turbo.amqp.connect_errors import explain
from turbo.amqp.url import parameters
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress

#: Seconds for connecting to one broker, including TLS and login.
_PATIENCE: Final = 15.0


def receive(
    addresses: Sequence[BrokerAddress], tls: TlsOptions | None, exchange: str, prefix: str,
    on_up: Callable[[], object], *, routing_key: str = "#", node_id: str | None = None, step: float,
) -> Iterator[Packet | None]:  # fmt: skip
    """Yield every message for the events' ``exchange`` from now on.

    Yields None after ``step`` seconds without one. The queue's name is ``prefix`` and ``node_id``, by default a new id.
    ``on_up`` is called once the queue is bound. Raises OperationalError when there is no connection or it is lost.
    """
    import pika  # pika costs a program that only sends tasks 60 ms of start-up
    from pika.exceptions import AMQPError

    candidates = [parameters(address, tls=tls, name="turbo events", stack_timeout=_PATIENCE) for address in addresses]
    try:
        connection = pika.BlockingConnection(candidates)
        try:
            channel = connection.channel()
            channel.exchange_declare(exchange, "topic", durable=True)
            queue = f"{prefix}.{node_id or uuid4()}"
            channel.queue_declare(queue, exclusive=True, auto_delete=True)
            channel.queue_bind(queue, exchange, routing_key)
            on_up()
            for _, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=step):
                yield (
                    None
                    if properties is None
                    else Packet(
                        body,
                        properties.content_type or "",
                        properties.content_encoding or "",
                        properties.headers or {},
                    )
                )
        finally:
            if connection.is_open:
                connection.close()
    except (AMQPError, OSError) as error:
        raise OperationalError(f"events: {explain(error)}") from error
