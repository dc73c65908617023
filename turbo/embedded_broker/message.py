"""A published message in the embedded broker: its unchanged bytes and a few facts.

A channel creates it when a publish is complete; queues hold it as `Entry`. The header table must never be decoded here:
the broker delivers the bytes that were published. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.wire import short_string

_FLAGS = struct.Struct(">H")
_SIZE = struct.Struct(">I")
#: Offset of the property flags in a content header's payload: after class, weight and body size.
FLAGS_AT = 12
CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION = 1 << 11, 1 << 10, 1 << 9, 1 << 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of properties in a content header's payload.

    Spans are (start, end), empty if absent.
    """

    flags: int
    table: tuple[int, int]  # including the four bytes of its length
    priority: int | None
    expiration: tuple[int, int]  # including the byte of its length


def parse_layout(payload: bytes) -> Layout:
    """Find header table, priority and expiration.

    Raises AmqpFault 502 if the payload is too short.
    """
    try:
        (flags,) = _FLAGS.unpack_from(payload, FLAGS_AT)
        at = FLAGS_AT + 2
        if flags & CONTENT_TYPE:
            at += 1 + payload[at]
        if flags & CONTENT_ENCODING:
            at += 1 + payload[at]
        table = (at, at)
        if flags & HEADERS:
            table = (at, at + 4 + _SIZE.unpack_from(payload, at)[0])
            at = table[1]
        if flags & DELIVERY_MODE:
            at += 1
        priority = None
        if flags & PRIORITY:
            priority = payload[at]
            at += 1
        if flags & CORRELATION_ID:
            at += 1 + payload[at]
        if flags & REPLY_TO:
            at += 1 + payload[at]
        expiration = (at, at)
        if flags & EXPIRATION:
            expiration = (at, at + 1 + payload[at])
            at = expiration[1]
    except (IndexError, struct.error) as error:
        raise AmqpFault(502, f"cannot read a content header: {error}") from error
    if at > len(payload) or flags & 1:
        raise AmqpFault(502, "cannot read a content header: it is truncated")
    return Layout(flags, table, priority, expiration)


def rebuild(payload: bytes, layout: Layout, table: bytes, *, keep_expiration: bool) -> bytes:
    """Return the payload with another header table.

    Without the expiration unless `keep_expiration`.
    """
    flags = layout.flags | HEADERS
    start, end = layout.expiration
    if not keep_expiration:
        flags &= ~EXPIRATION
    else:
        start = end
    return b"".join(
        (
            payload[:FLAGS_AT],
            _FLAGS.pack(flags),
            payload[FLAGS_AT + 2 : layout.table[0]],
            table,
            payload[layout.table[1] : start],
            payload[end:],
        )
    )


@dataclass(frozen=True, slots=True)
class Message:
    """One published message.

    `header` is the content header's payload, `ttl` the expiration in seconds.
    """

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    layout: Layout
    ttl: float | None
    #: Exchange and routing key, encoded as in basic.deliver.
    routing: bytes = field(repr=False)

    @property
    def table(self) -> bytes:
        """The encoded header table with its length; empty if there is none."""
        return self.header[self.layout.table[0] : self.layout.table[1]]


def make_message(exchange: str, routing_key: str, header: bytes, body: bytes) -> Message:
    """Return a message from the parts of a publish.

    Raises AmqpFault 502 or 406 for invalid properties.
    """
    layout = parse_layout(header)
    routing = short_string(exchange) + short_string(routing_key)
    return Message(exchange, routing_key, header, body, layout, _ttl(header, layout), routing)


def _ttl(header: bytes, layout: Layout) -> float | None:
    start, end = layout.expiration
    if start == end:
        return None
    text = header[start + 1 : end]
    if not text.isdigit():
        raise AmqpFault(406, f"invalid expiration {text!r}: not a number of milliseconds")
    return int(text) / 1000


@dataclass(slots=True)
class Entry:
    """A message in one queue.

    `position` is its place in that queue, to which a requeue returns it.
    """

    message: Message
    position: int
    expires_at: float | None
    redelivered: bool = False
    deliveries: int = 0
