"""The arguments of basic.deliver: which consumer, which tag, where the message was published.

Before it: the method frame that announces a message. After it: the child's executor (``request.delivery_info``)
and the master when it must know where a message came from, or say so itself. Pure. Raises only ``TableError``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from turbo.protocol.table import TableError

_TAG = struct.Struct(">QB")


@dataclass(slots=True)
class Deliver:
    """Arguments of one basic.deliver."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str


def parse_deliver(args: bytes) -> Deliver:
    """Decode the method's arguments, which follow the 4 bytes of class and method id in the frame's payload.

    Strings that are not UTF-8 come back with surrogate escapes. Raises ``TableError`` when the bytes are not these
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
        raise TableError(f"basic.deliver is cut short: {error}") from error
    if end != len(args):
        raise TableError("basic.deliver does not end where its arguments do")
    return Deliver(consumer_tag, delivery_tag, bits & 1 != 0, exchange, routing_key)


def build_deliver(received: Deliver, exchange: str, routing_key: str) -> bytes:
    """Encode the arguments of a delivery as if it had been sent to another exchange by another key.

    Raises ``TableError`` for a name over 255 bytes.
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
        raise TableError(f"a name of {len(data)} bytes, more than AMQP allows")
    return bytes((len(data),)) + data
