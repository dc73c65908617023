"""The bytes of one published message: method, header and body frames.

Used by the publisher in the master and by clients' connections: the content-header payload comes
ready-made from ``protocol.properties.encode_header``, so nothing is encoded here but lengths. Pure. It must
never open, decode or check a header.

Frames are those of AMQP 0-9-1 §4.2.3; the method is Basic.Publish (60.40).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct(">BHI").pack
#: class, method, reserved u16 of Basic.Publish.
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"
_END = b"\xce"
#: Bytes a frame takes beside its payload.
_AROUND = 8
#: A short string's longest length.
_SHORT = 255


def publish_method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The payload of the method frame.

    Raises ``ValueError`` when a name is longer than 255 bytes.
    """
    name, key = exchange.encode(), routing_key.encode()
    if len(name) > _SHORT or len(key) > _SHORT:
        raise ValueError(f"exchange {exchange[:40]!r} or routing key {routing_key[:40]!r} is over 255 bytes")
    return b"%b%c%b%c%b%c" % (_PUBLISH, len(name), name, len(key), key, 1 if mandatory else 0)


def publish_frames(channel: int, method: bytes, header: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """The pieces of one message, to be joined or sent in this order.

    ``frame_max`` in bytes is the connection's, 0 for no limit. Raises ``ValueError`` when the header does not
    fit into one frame, as AMQP demands.
    """
    largest = _largest_payload(header, body, frame_max)
    head = _HEAD
    pieces = [head(1, channel, len(method)), method, _END + head(2, channel, len(header)), header]
    if len(body) <= largest:
        pieces += (_END + head(3, channel, len(body)), body, _END) if body else (_END,)
    else:
        pieces.append(_END)
        for start in range(0, len(body), largest):
            part = body[start : start + largest]
            pieces += (head(3, channel, len(part)), part, _END)
    return pieces


def publish_in_parts(
    channel: int, method: bytes, header: bytes, body: bytes, frame_max: int, part_bytes: int
) -> Iterator[bytes]:
    """The same bytes in parts of about ``part_bytes`` that end with a frame.

    Each is made when asked for. For large bodies: between two parts other channels may send. Raises ``ValueError`` as
    above.
    """
    largest = _largest_payload(header, body, frame_max)
    first = publish_frames(channel, method, header, b"", frame_max)
    return _parts(channel, first, body, largest, part_bytes)


def _parts(channel: int, first: list[bytes], body: bytes, largest: int, part_bytes: int) -> Iterator[bytes]:
    pieces: list[bytes | memoryview] = [*first]
    gathered = sum(map(len, first))
    view = memoryview(body)
    for start in range(0, len(body), largest):
        part = view[start : start + largest]
        pieces += (_HEAD(3, channel, len(part)), part, _END)
        gathered += len(part)
        if gathered >= part_bytes:
            yield b"".join(pieces)
            pieces, gathered = [], 0
    if pieces:
        yield b"".join(pieces)


def _largest_payload(header: bytes, body: bytes, frame_max: int) -> int:
    largest = frame_max - _AROUND if frame_max else max(len(header), len(body), 1)
    if len(header) > largest:
        raise ValueError(f"message header of {len(header)} bytes; the broker takes {largest}")
    return largest
