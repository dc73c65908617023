"""A published message as the embedded broker keeps it: the bytes as they came, and the few facts it needs.

Made by a channel when a publish is complete; lives in queues as `Entry`. The header table is never decoded
on this way: the bytes that were published are the bytes that are delivered.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.wire import short_string

_FLAGS = struct.Struct(">H")
_SIZE = struct.Struct(">I")
#: Where the property flags are in a content header's payload: after class, weight and body size.
FLAGS_AT = 12
CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION = 1 << 11, 1 << 10, 1 << 9, 1 << 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a content header's payload; spans are (start, end), empty when absent."""

    flags: int
    table: tuple[int, int]  # with the four bytes of its length
    priority: int | None
    expiration: tuple[int, int]  # with the byte of its length


def lay_out(payload: bytes) -> Layout:
    """Find the header table, the priority and the expiration. AmqpFault 502 when the payload is too short."""
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
        raise AmqpFault(502, f"a content header cannot be read: {error}") from error
    if at > len(payload) or flags & 1:
        raise AmqpFault(502, "a content header cannot be read: it ends too early")
    return Layout(flags, table, priority, expiration)


def rebuild(payload: bytes, layout: Layout, table: bytes, *, keep_expiration: bool) -> bytes:
    """The payload with another header table, and without its expiration unless that is kept."""
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
    """What was published. `header` is the content header's payload, `ttl` the expiration in seconds."""

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    layout: Layout
    ttl: float | None
    #: Exchange and routing key as basic.deliver carries them.
    routing: bytes = field(repr=False)

    @property
    def table(self) -> bytes:
        """The encoded header table with its length; empty when there is none."""
        return self.header[self.layout.table[0] : self.layout.table[1]]


def make_message(exchange: str, routing_key: str, header: bytes, body: bytes) -> Message:
    """A message from the parts of a publish. AmqpFault 502 or 406 when its properties cannot be used."""
    layout = lay_out(header)
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
    """A message in one queue; `position` is its place in that queue, which a requeue gives back."""

    message: Message
    position: int
    expires_at: float | None
    redelivered: bool = False
    deliveries: int = 0
