"""The arguments of Basic.Deliver: where a delivery came from.

Place: ``amqp`` keeps these bytes undecoded beside each delivery; the child decodes them for
``request.delivery_info``, the master when it has to know a queue's or an exchange's name. Pure.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from turbo.protocol.table import TableError

_TAG = struct.Struct(">QB")


class Deliver(NamedTuple):
    """Arguments of one Basic.Deliver."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str


def parse_deliver(args: bytes) -> Deliver:
    """Decode the method's arguments (behind class and method id). Raises TableError."""
    try:
        at = 1 + args[0]
        tag, redelivered = _TAG.unpack_from(args, at)
        exchange_at = at + 9
        key_at = exchange_at + 1 + args[exchange_at]
        key_end = key_at + 1 + args[key_at]
    except (struct.error, IndexError) as error:
        raise TableError(f"deliver method ends early: {error}") from None
    if key_end > len(args):
        raise TableError("routing key is longer than the deliver method")
    return Deliver(
        args[1:at].decode("utf-8", "replace"),
        tag,
        bool(redelivered & 1),
        args[exchange_at + 1 : key_at].decode("utf-8", "replace"),
        args[key_at + 1 : key_end].decode("utf-8", "replace"),
    )


def is_redelivered(args: bytes) -> bool:
    """Just the redelivered flag; False for bytes that are too short."""
    at = 9 + args[0] if args else 0
    return len(args) > at and bool(args[at] & 1)
