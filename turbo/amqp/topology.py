"""Exchanges, queues and bindings as values.

The app builds them from settings. ``amqp.declarer`` in the master and ``amqp.client.declaring`` in clients declare
them. A value says exactly what goes on the wire. The broker refuses a queue that exists with other properties, so every
default equals Celery's (feature row WP25). It must never talk to a broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Queue options with a name of their own in settings: RabbitMQ's argument, and the factor to its unit.
_ARGUMENT_OF = {
    "expires": ("x-expires", 1000),
    "message_ttl": ("x-message-ttl", 1000),
    "max_length": ("x-max-length", 1),
    "max_length_bytes": ("x-max-length-bytes", 1),
    "max_priority": ("x-max-priority", 1),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange. The default exchange has the name ""."""

    name: str = ""
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, object] = field(default_factory=dict, hash=False)
    no_declare: bool = False

    @property
    def declarable(self) -> bool:
        """Whether it may be declared: the broker's own ("" and ``amq.*``) may not."""
        return bool(self.name) and not self.name.startswith("amq.") and not self.no_declare


@dataclass(frozen=True, slots=True)
class Binding:
    """A further binding of a queue, besides that to its own exchange."""

    exchange: Exchange
    routing_key: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue.

    ``queue_arguments`` go on the wire as they are, see :func:`queue_arguments`.
    """

    name: str
    exchange: Exchange = Exchange()
    routing_key: str = ""
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    queue_arguments: Mapping[str, object] = field(default_factory=dict, hash=False)
    binding_arguments: Mapping[str, object] = field(default_factory=dict, hash=False)
    bindings: tuple[Binding, ...] = ()
    consumer_arguments: Mapping[str, object] = field(default_factory=dict, hash=False)
    no_declare: bool = False
    #: The broker settles a delivery when it sends it, and pausing does not stop deliveries: a mailbox, not tasks.
    no_ack: bool = False
    #: Consume as the queue's only consumer.
    exclusive_consumer: bool = False
    #: Holds copies of this worker's own deliveries. Consumed without a window, even while task queues are paused.
    lease: bool = False

    @property
    def quorum(self) -> bool:
        """Whether it is declared as a quorum queue."""
        return self.queue_arguments.get("x-queue-type") == "quorum"

    @property
    def window_is_fixed(self) -> bool:
        """Whether its prefetch may not be changed while consuming.

        A new window needs a new consumer. Measured on RabbitMQ 3.10: a single-active-consumer queue never serves the
        new consumer, and on an exclusive one the broker closes the channel.
        """
        single = self.queue_arguments.get("x-single-active-consumer") is True
        return single or self.exclusive or self.exclusive_consumer

    @property
    def keeps_consumer(self) -> bool:
        """Whether a pause must not cancel its consumer.

        Otherwise its place would go to another worker, or the broker would delete the queue.
        """
        return self.window_is_fixed or self.auto_delete

    @property
    def temporary(self) -> bool:
        """Whether the broker deletes the queue with its connection or its last consumer."""
        return self.exclusive or self.auto_delete

    @property
    def always_consumed(self) -> bool:
        """Whether its consumer stays during pauses and changes of the window."""
        return self.no_ack or self.lease

    def all_bindings(self) -> tuple[Binding, ...]:
        """Return all bindings to declare, that to its own exchange first.

        The default exchange needs none.
        """
        own = Binding(self.exchange, self.routing_key, self.binding_arguments)
        return ((own,) if self.exchange.name else ()) + self.bindings


def queue_arguments(
    arguments: Mapping[str, object] | None = None,
    *,
    expires: float | None = None,
    message_ttl: float | None = None,
    max_length: int | None = None,
    max_length_bytes: int | None = None,
    max_priority: int | None = None,
) -> dict[str, object]:
    """Return a queue's arguments, with the named options in RabbitMQ's form.

    Times are in seconds.
    """
    named = {
        "expires": expires,
        "message_ttl": message_ttl,
        "max_length": max_length,
        "max_length_bytes": max_length_bytes,
        "max_priority": max_priority,
    }
    result: dict[str, object] = dict(arguments or {})
    for option, value in named.items():
        if value is not None:
            name, unit = _ARGUMENT_OF[option]
            result[name] = int(value * unit)
    return result


def task_queue(
    name: str,
    *,
    exchange: str | None = None,
    exchange_type: str = "direct",
    routing_key: str | None = None,
    queue_type: str | None = None,
    max_priority: int | None = None,
) -> Queue:
    """Return the queue that Celery creates for a bare name.

    It is durable and has a durable direct exchange and a routing key of the same name.

    ``queue_type`` is ``task_default_queue_type`` or ``task_create_missing_queue_type``. Only "quorum" goes on the wire,
    because Celery declares a classic queue without its type.
    """
    arguments = {"x-queue-type": "quorum"} if queue_type == "quorum" else None
    return Queue(
        name,
        Exchange(name if exchange is None else exchange, exchange_type),
        name if routing_key is None else routing_key,
        queue_arguments=queue_arguments(arguments, max_priority=max_priority),
    )
