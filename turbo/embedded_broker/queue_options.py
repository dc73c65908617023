"""Reads and validates the arguments of an embedded broker's queue.

Called by the virtual host at each declaration. Unknown arguments are stored and ignored, as in RabbitMQ; streams, which
need a disk, are refused. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbo.embedded_broker.faults import AmqpFault, precondition_failed

if TYPE_CHECKING:
    from collections.abc import Mapping

_OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
_LONGEST_TTL = 315_360_000_000  # ms, ten years: what RabbitMQ accepts


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """The options of a queue. Times are in seconds; None means no such limit."""

    message_ttl: float | None = None
    expires: float | None = None
    max_priority: int = 0
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    single_active: bool = False
    quorum: bool = False
    delivery_limit: int | None = None


def read_options(queue: str, vhost: str, arguments: Mapping[str, object]) -> QueueOptions:
    """Return the options in `arguments`.

    Raises AmqpFault 406 for an invalid one, 540 for a stream.
    """

    def bad(name: str, why: str) -> AmqpFault:
        return precondition_failed(f"invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}")

    def number(name: str, low: int, high: int | None = None) -> int | None:
        value = arguments.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise bad(name, "unacceptable type, an integer is needed")
        if value < low or (high is not None and value > high):
            raise bad(name, f"value {value} is out of range")
        return value

    def text(name: str) -> str | None:
        value = arguments.get(name)
        if value is not None and not isinstance(value, str):
            raise bad(name, "unacceptable type, a string is needed")
        return value

    kind = text("x-queue-type") or "classic"
    if kind == "stream":
        raise AmqpFault(540, "the embedded broker has no streams")
    if kind not in ("classic", "quorum"):
        raise bad("x-queue-type", f"unknown queue type {kind}")
    overflow = text("x-overflow") or "drop-head"
    if overflow not in _OVERFLOWS:
        raise bad("x-overflow", f"unknown overflow {overflow}")
    exchange, key = text("x-dead-letter-exchange"), text("x-dead-letter-routing-key")
    if key is not None and exchange is None:
        raise bad("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    return QueueOptions(
        message_ttl=_seconds(number("x-message-ttl", 0, _LONGEST_TTL)),
        expires=_seconds(number("x-expires", 1, _LONGEST_TTL)),
        max_priority=number("x-max-priority", 0, 255) or 0,
        max_length=number("x-max-length", 0),
        max_length_bytes=number("x-max-length-bytes", 0),
        overflow=overflow,
        dead_letter_exchange=exchange,
        dead_letter_routing_key=key,
        single_active=arguments.get("x-single-active-consumer") is True,
        quorum=kind == "quorum",
        delivery_limit=number("x-delivery-limit", 0),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
