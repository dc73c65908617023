"""A connection on which a program's own consumers receive, on one thread.

Used by ``native.steps``, on the thread of ``master.consumer_steps``. What arrives is passed on as it came: it must
never be decoded or settled here.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from turbo.amqp.connect_errors import explain
from turbo.amqp.url import parameters
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Exchange, Queue
    from turbo.amqp.url import BrokerAddress

    OnDelivery = Callable[[bytes, Mapping[str, Any], dict[str, Any]], object]

#: Seconds for connecting to one broker, including TLS and login.
_PATIENCE: Final = 15.0
_PROPERTIES: Final = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to",
    "expiration", "message_id", "timestamp", "type", "user_id", "app_id",
)  # fmt: skip


class StepConnection:
    """An open connection. ``accept`` are the content types of its messages.

    Raises OperationalError.
    """

    def __init__(
        self, addresses: Sequence[BrokerAddress], tls: TlsOptions | None, heartbeat: float, accept: frozenset[str]
    ) -> None:
        import pika  # only workers with such steps need it here

        self._accept = accept
        self._channels: list[StepChannel] = []
        #: Deliveries that were read and not yet passed on.
        self._arrived: deque[Callable[[], object]] = deque()
        with _Translated():
            self._connection = pika.BlockingConnection(
                [
                    parameters(address, tls=tls, heartbeat=heartbeat, name="turbo step", stack_timeout=_PATIENCE)
                    for address in addresses
                ]
            )

    def channel(self) -> StepChannel:
        """Open a channel."""
        with _Translated():
            channel = StepChannel(self._connection.channel(), self._accept, self._arrived)
        self._channels.append(channel)
        return channel

    def serve(self, seconds: float) -> None:
        """Pass on what arrives, for about so long, and keep the connection alive.

        Raises OperationalError if the connection is lost, or a consumer with the deletion of its queue.
        """
        deadline = time.monotonic() + seconds
        with _Translated():
            # Heartbeats are sent here alone, so this returns even while messages come without a pause.
            self._connection.process_data_events(time_limit=0 if self._arrived else seconds)
        for channel in self._channels:
            channel.check()
        while self._arrived and time.monotonic() < deadline:
            self._arrived.popleft()()

    def close(self) -> None:
        """Close the connection, if it is open."""
        from pika.exceptions import AMQPError

        if not self._connection.is_open:
            return
        try:
            self._connection.close()
        except (AMQPError, OSError):
            # It is gone, which is all that was wanted.
            return

    def __enter__(self) -> StepConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StepChannel:
    """A channel, for ``app.consuming.Consumer``. Its methods raise OperationalError."""

    def __init__(self, channel: Any, accept: frozenset[str], arrived: deque[Callable[[], object]]) -> None:
        self.accept = accept
        self._channel = channel
        self._arrived = arrived
        self._cancelled = ""
        channel.add_on_cancel_callback(self._on_cancel)

    def declare(self, queue: Queue) -> None:
        """Declare a queue with its exchanges and bindings."""
        with _Translated():
            for binding in queue.all_bindings():
                self._declare_exchange(binding.exchange)
            self._channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(queue.queue_arguments),
            )
            for binding in queue.all_bindings():
                self._channel.queue_bind(
                    queue.name, binding.exchange.name, binding.routing_key, arguments=dict(binding.arguments)
                )

    def _declare_exchange(self, exchange: Exchange) -> None:
        if exchange.declarable:
            self._channel.exchange_declare(
                exchange.name,
                exchange.type,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                arguments=dict(exchange.arguments),
            )

    def qos(self, prefetch_count: int) -> None:
        """Limit the unsettled messages of each consumer that begins from now on."""
        with _Translated():
            self._channel.basic_qos(prefetch_count=prefetch_count, global_qos=False)

    def consume(self, queue: Queue, tag: str, on_delivery: OnDelivery, no_ack: bool) -> None:
        """Begin to consume from a queue."""

        def arrive(_channel: object, method: Any, properties: Any, body: bytes) -> None:
            info = {
                "consumer_tag": method.consumer_tag,
                "delivery_tag": method.delivery_tag,
                "redelivered": method.redelivered,
                "exchange": method.exchange,
                "routing_key": method.routing_key,
            }
            found = {name: getattr(properties, name) for name in _PROPERTIES}
            self._arrived.append(partial(on_delivery, body, found, info))

        with _Translated():
            self._channel.basic_consume(
                queue.name,
                arrive,
                auto_ack=no_ack,
                exclusive=queue.exclusive_consumer,
                consumer_tag=tag,
                arguments=dict(queue.consumer_arguments),
            )

    def cancel(self, tag: str) -> None:
        """End a consumer.

        What it was given and has not settled goes back to the queue with the channel's end.
        """
        with _Translated():
            self._channel.basic_cancel(tag)

    def ack(self, delivery_tag: int, multiple: bool) -> None:
        """Acknowledge a message."""
        with _Translated():
            self._channel.basic_ack(delivery_tag, multiple)

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Reject a message."""
        with _Translated():
            self._channel.basic_reject(delivery_tag, requeue)

    def close(self) -> None:
        """Close the channel, if it is open."""
        if self._channel.is_open:
            with _Translated():
                self._channel.close()

    def check(self) -> None:
        """Raise OperationalError if the broker has ended a consumer or closed the channel."""
        if self._cancelled:
            raise OperationalError(self._cancelled)

    def _on_cancel(self, frame: Any) -> None:
        self._cancelled = f"the broker ended the consumer {frame.method.consumer_tag}: its queue was deleted"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a channel of turbo has no {name!r}, so objects of kombu cannot use it: return turbo.bootsteps.Consumer "
            "objects from get_consumers, or put the step into a celery.Celery app, which `turbo worker` runs too"
        )


class _Translated:
    """A context manager that raises pika's errors as turbo's."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        from pika.exceptions import AMQPError

        if isinstance(error, (AMQPError, OSError)):
            raise OperationalError(explain(error)) from error
