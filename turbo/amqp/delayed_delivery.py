"""Describes the cascade of queues in which RabbitMQ holds delayed messages.

Used by ``amqp.consume.session`` when a worker consumes quorum queues, and by ``app.publish.routes`` when a client sends
to one; ``amqp.declarer`` and ``amqp.client.declaring`` declare these plain values. Celery's producers send a task with
an ETA for a quorum queue into this cascade instead of the queue. They expect that the worker has declared the cascade
and bound its queues to the end of it. Pure; it must never talk to the broker.

How it works: the delay in seconds stands as 28 binary digits in front of the routing key. Level 27 reads the first
digit. A 1 routes the message into a queue whose messages expire after 2^27 seconds into the exchange of level 26; a 0
routes it to that exchange at once. The same happens at every level down to 0. Then the delivery exchange routes by the
key that follows the digits. Names, arguments and bindings equal those of Celery 5.5 and later byte for byte, because
both libraries declare them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from turbo.amqp.topology import Binding, Exchange, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable

LEVELS: Final = 28
#: Longest delay in seconds (eight years).
_LONGEST: Final = 2**LEVELS - 1
#: The digits in front of a routing key: a message that was delayed before has them already.
_DIGITS: Final = re.compile(rf"^(?:[01]\.){{{LEVELS}}}")
#: Most bytes of a routing key.
_LONGEST_KEY: Final = 255
#: Stands before the queue's name in the routing keys of messages that a worker has parked.
_PARKED: Final = "turbo-parked"
DELIVERY: Final = Exchange("celery_delayed_delivery", "topic")


@dataclass(frozen=True, slots=True)
class ExchangeBinding:
    """A binding that routes messages from ``source`` to ``destination``.

    It takes those with ``routing_key``.
    """

    destination: str
    source: str
    routing_key: str


def level_name(level: int) -> str:
    """Return the name of a level's exchange, which is also that of its queue."""
    return f"celery_delayed_{level}"


def cascade(queue_type: str = "quorum") -> tuple[list[Queue], list[ExchangeBinding]]:
    """Return the queues of all levels with their exchanges and bindings.

    The bindings between the exchanges are included.
    """
    queues: list[Queue] = []
    bindings: list[ExchangeBinding] = []
    for level in range(LEVELS - 1, -1, -1):
        name = level_name(level)
        exchange = Exchange(name, "topic")
        following = level_name(level - 1) if level else DELIVERY.name
        passed = "*." * (LEVELS - 1 - level)
        arguments: dict[str, object] = {
            "x-queue-type": queue_type,
            "x-overflow": "reject-publish",
            "x-message-ttl": 2**level * 1000,
            "x-dead-letter-exchange": following,
        }
        if queue_type == "quorum":
            arguments["x-dead-letter-strategy"] = "at-least-once"
        queues.append(Queue(name, exchange, f"{passed}1.#", queue_arguments=arguments))
        bindings.append(ExchangeBinding(following, name, f"{passed}0.#"))
    return queues, bindings


@dataclass(frozen=True, slots=True)
class Delays(Queue):
    """The cascade and the bindings from its end to ``queue``.

    It stands among the queues that must be declared before a message is published.
    """

    queue: Queue = field(default_factory=lambda: Queue(""))
    queue_type: str = "quorum"


def delays_for(queue: Queue, queue_type: str) -> Delays:
    """Return what to declare before a message for ``queue`` can be delayed.

    The delay queues are of ``queue_type``.
    """
    return Delays(f"{queue.name} (delayed)", queue=queue, queue_type=queue_type)


def delayed_key(seconds: float, key: str) -> str | None:
    """Return the key that delays a message by ``seconds``, then routes it by ``key``.

    The message goes to :func:`first_level`. Returns None if the delay is below a second or too long, or if the key
    becomes too long.
    """
    if not 1 <= seconds <= _LONGEST or not key:
        return None
    digits = ".".join(f"{int(seconds):0{LEVELS}b}")
    found = f"{digits}.{_DIGITS.sub('', key)}"
    return found if len(found.encode()) <= _LONGEST_KEY else None


def parking_key(seconds: float, queue: str) -> str | None:
    """Return the key of a message that returns to ``queue`` after ``seconds``.

    The message goes to :func:`first_level`. Returns None where :func:`delayed_key` does. The word in front of the
    queue's name distinguishes parked messages from those that producers delay with a routing key equal to the queue's
    name.
    """
    return delayed_key(seconds, f"{_PARKED}.{queue}")


def parking_binding(queue: Queue) -> Binding:
    """Return the binding that routes parked messages of ``queue`` back to it."""
    return Binding(DELIVERY, f"#.{_PARKED}.{queue.name}")


def first_level() -> str:
    """Return the name of the exchange to which delayed messages are published."""
    return level_name(LEVELS - 1)


def uses_cascade(queue: Queue) -> bool:
    """Whether producers use the cascade for this queue.

    They do for a quorum queue that is bound to an exchange which is not direct.
    """
    return queue.quorum and any(True for _ in _delayable(queue))


def delivery_bindings(queue: Queue) -> tuple[list[ExchangeBinding], list[Binding]]:
    """Return the bindings from the cascade's end to the queue's exchanges and queue."""
    outer: list[ExchangeBinding] = []
    inner: list[Binding] = []
    for binding in _delayable(queue):
        key = binding.routing_key if binding.routing_key.startswith("#") else f"#.{binding.routing_key}"
        outer.append(ExchangeBinding(binding.exchange.name, DELIVERY.name, key))
        inner.append(Binding(binding.exchange, key))
    return outer, inner


def _delayable(queue: Queue) -> Iterable[Binding]:
    """Return the bindings that can match delayed keys.

    A direct exchange compares whole keys, so a key with digits never matches; Celery skips direct exchanges too.
    """
    return (b for b in queue.all_bindings() if b.exchange.name and b.exchange.type != "direct")
