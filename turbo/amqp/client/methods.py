"""Packs and unpacks the few AMQP 0-9-1 methods that a blocking publisher needs.

Used by ``amqp.client.connection``, together with ``amqp.publish.frames`` for messages. The worker's own connections use
pika, which a web process that only sends tasks need not load. Pure: bytes in, values out; it must never do I/O. Source
of every layout: the AMQP 0-9-1 specification (domains and classes) and RabbitMQ's extensions ``confirm`` and
``connection.blocked``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.protocol.table import encode_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"

METHOD: Final = 1
HEADER: Final = 2
HEARTBEAT: Final = 8
_END: Final = b"\xce"

#: Class and method numbers, joined as on the wire.
CONNECTION_START: Final = 0x000A000A
CONNECTION_START_OK: Final = 0x000A000B
CONNECTION_TUNE: Final = 0x000A001E
CONNECTION_TUNE_OK: Final = 0x000A001F
CONNECTION_OPEN: Final = 0x000A0028
CONNECTION_OPEN_OK: Final = 0x000A0029
CONNECTION_CLOSE: Final = 0x000A0032
CONNECTION_CLOSE_OK: Final = 0x000A0033
CONNECTION_BLOCKED: Final = 0x000A003C
CONNECTION_UNBLOCKED: Final = 0x000A003D
CHANNEL_OPEN: Final = 0x0014000A
CHANNEL_OPEN_OK: Final = 0x0014000B
CHANNEL_CLOSE: Final = 0x00140028
CHANNEL_CLOSE_OK: Final = 0x00140029
EXCHANGE_DECLARE: Final = 0x0028000A
EXCHANGE_DECLARE_OK: Final = 0x0028000B
EXCHANGE_BIND: Final = 0x0028001E
EXCHANGE_BIND_OK: Final = 0x0028001F
QUEUE_DECLARE: Final = 0x0032000A
QUEUE_DECLARE_OK: Final = 0x0032000B
QUEUE_BIND: Final = 0x00320014
QUEUE_BIND_OK: Final = 0x00320015
QUEUE_PURGE: Final = 0x0032001E
QUEUE_PURGE_OK: Final = 0x0032001F
BASIC_RETURN: Final = 0x003C0032
BASIC_ACK: Final = 0x003C0050
BASIC_NACK: Final = 0x003C0078
CONFIRM_SELECT: Final = 0x0055000A
CONFIRM_SELECT_OK: Final = 0x0055000B

_FRAME: Final = struct.Struct(">BHI")
_METHOD: Final = struct.Struct(">BHII")
_TUNE: Final = struct.Struct(">HIH")
_ACK: Final = struct.Struct(">QB")

#: Bytes of a frame that are not payload.
FRAME_OVERHEAD: Final = 8


class BadFrame(ValueError):
    """The peer sent bytes that are not an AMQP frame."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the broker closed a channel or the connection, or returned a message."""

    code: int
    text: str


def method(channel: int, number: int, arguments: bytes = b"") -> bytes:
    """Return the frame of one method."""
    return _METHOD.pack(METHOD, channel, 4 + len(arguments), number) + arguments + _END


def short_string(text: str) -> bytes:
    """Return ``text`` as an AMQP short string; ValueError above 255 bytes."""
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"longer than the 255 bytes that AMQP allows: {text[:80]!r}…")
    return bytes((len(data),)) + data


def start_ok(user: str, password: str, properties: Mapping[str, object]) -> bytes:
    """Return connection.start-ok: log in with the mechanism PLAIN."""
    secret = b"\0" + user.encode() + b"\0" + password.encode()
    return method(
        0,
        CONNECTION_START_OK,
        b"".join(
            (
                encode_table(properties),
                short_string("PLAIN"),
                struct.pack(">I", len(secret)),
                secret,
                short_string("en_US"),
            )
        ),
    )


def read_tune(arguments: bytes) -> tuple[int, int]:
    """Return the broker's limits: channels, and bytes of a frame. 0 means no limit."""
    channels, frame, _heartbeat = _TUNE.unpack_from(arguments)
    return channels, frame


def tune_ok(channels: int, frame: int) -> bytes:
    """Return connection.tune-ok: accept the limits, without heartbeats."""
    return method(0, CONNECTION_TUNE_OK, _TUNE.pack(channels, frame, 0))


def open_connection(vhost: str) -> bytes:
    """Return connection.open for a virtual host."""
    return method(0, CONNECTION_OPEN, short_string(vhost) + b"\0\0")


def close(channel: int) -> bytes:
    """Return a close: of the connection for channel 0, else of the channel."""
    number = CHANNEL_CLOSE if channel else CONNECTION_CLOSE
    return method(channel, number, struct.pack(">H", 200) + short_string("bye") + b"\0\0\0\0")


def declare_exchange(
    channel: int, name: str, kind: str, durable: bool, auto_delete: bool, arguments: Mapping[str, object]
) -> bytes:
    """Return exchange.declare."""
    return method(
        channel,
        EXCHANGE_DECLARE,
        b"".join(
            (
                b"\0\0",
                short_string(name),
                short_string(kind),
                bytes((durable << 1 | auto_delete << 2,)),
                encode_table(arguments),
            )
        ),
    )


def declare_queue(
    channel: int,
    name: str,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: Mapping[str, object],
) -> bytes:
    """Return queue.declare."""
    return method(
        channel,
        QUEUE_DECLARE,
        b"".join(
            (
                b"\0\0",
                short_string(name),
                bytes((durable << 1 | exclusive << 2 | auto_delete << 3,)),
                encode_table(arguments),
            )
        ),
    )


def bind_queue(channel: int, queue: str, exchange: str, key: str, arguments: Mapping[str, object]) -> bytes:
    """Return queue.bind: bind a queue to an exchange."""
    return method(
        channel,
        QUEUE_BIND,
        b"".join(
            (
                b"\0\0",
                short_string(queue),
                short_string(exchange),
                short_string(key),
                b"\0",
                encode_table(arguments),
            )
        ),
    )


def bind_exchange(channel: int, destination: str, source: str, key: str) -> bytes:
    """Return exchange.bind: messages from ``source`` by ``key`` to ``destination``."""
    names = b"".join(map(short_string, (destination, source, key)))
    return method(channel, EXCHANGE_BIND, b"\0\0" + names + b"\0" + encode_table({}))


def purge_queue(channel: int, queue: str) -> bytes:
    """Return queue.purge: delete the messages of a queue that no consumer holds."""
    return method(channel, QUEUE_PURGE, b"\0\0" + short_string(queue) + b"\0")


def read_purged(arguments: bytes) -> int:
    """Return how many messages a purge deleted."""
    (count,) = struct.unpack_from(">I", arguments)
    return int(count)


def read_fault(arguments: bytes) -> Fault:
    """Return code and text of a close or of a returned message."""
    (code,) = struct.unpack_from(">H", arguments)
    return Fault(code, read_short_string(arguments, 2))


def read_short_string(data: bytes, offset: int) -> str:
    """Return the short string at ``offset``."""
    return data[offset + 1 : offset + 1 + data[offset]].decode("utf-8", "replace")


def read_ack(arguments: bytes) -> tuple[int, bool]:
    """Return the delivery tag of an ack or nack, and whether it covers earlier tags."""
    tag, flags = _ACK.unpack_from(arguments)
    return tag, bool(flags & 1)


class FrameReader:
    """Splits a byte stream into frames.

    An incomplete frame waits for the next ``feed``.
    """

    __slots__ = ("_pending", "_size_limit")

    def __init__(self, size_limit: int) -> None:
        self._pending = b""
        self._size_limit = size_limit

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield ``(kind, channel, payload)`` of each complete frame. Raises BadFrame."""
        data = self._pending + data if self._pending else data
        offset, end = 0, len(data)
        while end - offset >= 7:
            kind, channel, size = _FRAME.unpack_from(data, offset)
            # A broker that refuses our protocol header sends its own, "AMQP" and four bytes, and closes.
            if size > self._size_limit or (kind == 65 and data[offset : offset + 4] == b"AMQP"):
                raise BadFrame("the peer speaks another version of AMQP or another protocol")
            stop = offset + 7 + size
            if stop >= end:
                break
            if data[stop] != 0xCE:
                raise BadFrame("a frame does not end where it should")
            payload = data[offset + 7 : stop]
            offset = stop + 1
            self._pending = data[offset:]
            yield kind, channel, payload
        self._pending = data[offset:]


class Confirmations:
    """Counts the published and the confirmed messages of one channel in confirm mode."""

    __slots__ = ("_early", "_last", "_refused", "up_to")

    def __init__(self) -> None:
        self._last = 0
        self._early: set[int] = set()
        self._refused: set[int] = set()
        #: Every tag up to this one is confirmed, positively or not.
        self.up_to = 0

    def published(self) -> int:
        """Count one more message and return its tag."""
        self._last += 1
        return self._last

    def settle(self, tag: int, multiple: bool, negative: bool) -> None:
        """Record a confirm of ``tag``, or of all tags up to it.

        Single confirms may come out of order.
        """
        for settled in range(self.up_to + 1, tag + 1) if multiple else (tag,):
            self._early.add(settled)
            if negative:
                self._refused.add(settled)
        while self.up_to + 1 in self._early:
            self.up_to += 1
            self._early.discard(self.up_to)

    def refused(self, tag: int) -> bool:
        """Whether the broker confirmed ``tag`` negatively; True only the first time."""
        known = tag in self._refused
        self._refused.discard(tag)
        return known
