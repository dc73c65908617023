"""The cascade of queues in which RabbitMQ holds messages that producers delay: what to declare, as plain values.

Before it: ``amqp.consume.session``, when a worker consumes quorum queues, and ``app.publish.routes``, when a client
sends to one. After it: ``amqp.declarer`` and ``amqp.client.declaring``, which declare it. Celery's producers send a
task with an ETA for a quorum queue not to the queue but into this cascade, and expect the worker to have declared it
and to have bound its queues to the far end. Pure.

How it works. The delay in seconds is written as 28 binary digits in front of the routing key. Level 27 looks at the
first digit: a 1 puts the message into a queue whose messages expire after 2^27 seconds into the next level's exchange,
a 0 passes it on at once; so down to level 0, behind which the delivery exchange routes by what follows the digits.
Names, arguments and bindings are those of Celery 5.5 and later, byte for byte, because both declare them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from turbo.amqp.topology import Binding, Exchange, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable

LEVELS: Final = 28
#: Seconds (eight years) beyond which nothing can be delayed.
_LONGEST: Final = 2**LEVELS - 1
#: The digits before the key of a message that was delayed before.
_DIGITS: Final = re.compile(rf"^(?:[01]\.){{{LEVELS}}}")
#: Bytes of a routing key.
_LONGEST_KEY: Final = 255
#: Comes before a queue's name in the keys of messages that a worker has parked.
_PARKED: Final = "turbo-parked"
DELIVERY: Final = Exchange("celery_delayed_delivery", "topic")


@dataclass(frozen=True, slots=True)
class ExchangeBinding:
    """``destination`` gets what ``source`` routes by ``routing_key``."""

    destination: str
    source: str
    routing_key: str


def level_name(level: int) -> str:
    """Name of a level's exchange, and of its queue."""
    return f"celery_delayed_{level}"


def cascade(queue_type: str = "quorum") -> tuple[list[Queue], list[ExchangeBinding]]:
    """The levels' queues, each with its exchange and binding, and the bindings between the exchanges."""
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
    """Among the queues that must be there for a message: the cascade, and the way from its end to ``queue``."""

    queue: Queue = field(default_factory=lambda: Queue(""))
    queue_type: str = "quorum"


def delays_for(queue: Queue, queue_type: str) -> Delays:
    """What must be declared before a message for ``queue`` can be delayed, in queues of that type."""
    return Delays(f"{queue.name} (delayed)", queue=queue, queue_type=queue_type)


def delayed_key(seconds: float, key: str) -> str | None:
    """The routing key at ``level_name(27)`` of a message that goes on by ``key`` after ``seconds``, whole ones.

    None when it need not or cannot be delayed: for less than a second, for too long, or by a key too long.
    """
    if not 1 <= seconds <= _LONGEST or not key:
        return None
    digits = ".".join(f"{int(seconds):0{LEVELS}b}")
    found = f"{digits}.{_DIGITS.sub('', key)}"
    return found if len(found.encode()) <= _LONGEST_KEY else None


def parking_key(seconds: float, queue: str) -> str | None:
    """The routing key at :func:`first_level` of a message that returns to ``queue`` after whole ``seconds``.

    None when it need not or cannot wait there, as in :func:`delayed_key`. The word before the queue's name keeps apart
    from it what producers delay by a routing key that equals the name.
    """
    return delayed_key(seconds, f"{_PARKED}.{queue}")


def parking_binding(queue: Queue) -> Binding:
    """The binding that leads parked messages of ``queue`` back to it."""
    return Binding(DELIVERY, f"#.{_PARKED}.{queue.name}")


def first_level() -> str:
    """Name of the exchange where every delay begins."""
    return level_name(LEVELS - 1)


def wants_delay(queue: Queue) -> bool:
    """Whether producers delay messages for this queue here: a quorum queue behind an exchange that is not direct."""
    return queue.quorum and any(True for _ in _delayable(queue))


def ways_in(queue: Queue) -> tuple[list[ExchangeBinding], list[Binding]]:
    """Bindings from the cascade's end to the queue's exchanges, and from those to the queue."""
    outer: list[ExchangeBinding] = []
    inner: list[Binding] = []
    for binding in _delayable(queue):
        key = binding.routing_key if binding.routing_key.startswith("#") else f"#.{binding.routing_key}"
        outer.append(ExchangeBinding(binding.exchange.name, DELIVERY.name, key))
        inner.append(Binding(binding.exchange, key))
    return outer, inner


def _delayable(queue: Queue) -> Iterable[Binding]:
    """A direct exchange compares whole keys, so the digits would never match: Celery leaves it out as well."""
    return (b for b in queue.all_bindings() if b.exchange.name and b.exchange.type != "direct")
