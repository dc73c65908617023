"""Decodes and encodes the arguments of basic.deliver.

They are consumer, delivery tag, exchange and routing key.

Before it: the method frame of a delivery. After it: the child's executor, for ``request.delivery_info``, and the master
where it reads or rewrites a message's origin. Pure. It must never raise anything but ``TableError``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from turbo.protocol.table import TableError

_TAG = struct.Struct(">QB")


@dataclass(slots=True)
class Deliver:
    """The arguments of one basic.deliver."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str


def parse_deliver(args: bytes) -> Deliver:
    """Decode the method's arguments, which follow its ids in the payload.

    Strings that are not UTF-8 are returned with surrogate escapes. Raises ``TableError`` if the bytes are not these
    arguments.
    """
    try:
        at = 1 + args[0]
        consumer_tag = args[1:at].decode("utf-8", "surrogateescape")
        delivery_tag, bits = _TAG.unpack_from(args, at)
        at += 9
        end = at + 1 + args[at]
        exchange = args[at + 1 : end].decode("utf-8", "surrogateescape")
        at = end
        end = at + 1 + args[at]
        routing_key = args[at + 1 : end].decode("utf-8", "surrogateescape")
    except (struct.error, IndexError) as error:
        raise TableError(f"basic.deliver is truncated: {error}") from error
    if end != len(args):
        raise TableError("basic.deliver has bytes after its arguments")
    return Deliver(consumer_tag, delivery_tag, bits & 1 != 0, exchange, routing_key)


def build_deliver(received: Deliver, exchange: str, routing_key: str) -> bytes:
    """Encode the arguments of a delivery with another exchange and routing key.

    Raises ``TableError`` for a name of more than 255 bytes.
    """
    return b"".join(
        (
            _short(received.consumer_tag),
            _TAG.pack(received.delivery_tag, received.redelivered),
            _short(exchange),
            _short(routing_key),
        )
    )


def _short(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > 255:
        raise TableError(f"a name has {len(data)} bytes; the maximum is 255")
    return bytes((len(data),)) + data
