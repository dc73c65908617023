"""Encodes and decodes AMQP 0-9-1 frames and arguments for the server.

The first and last step of all bytes in the embedded broker's process. Framing constants, method numbers and the
encoding of replies are pika's. Requests are decoded here, because pika's decoder of field tables truncates floats and
raises for values that RabbitMQ accepts. Pure; it must never open, wait or log.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pika import amqp_object, frame, spec

from turbo.embedded_broker.faults import AmqpFault
from turbo.protocol.table import TableError, decode_table

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEARTBEAT = frame.Heartbeat().marshal()
METHOD, HEADER, BODY, BEAT = spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT
#: Bytes of a frame besides its payload: type, channel, size and the end mark.
OVERHEAD = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE

_END = bytes([spec.FRAME_END])
_HEAD = struct.Struct(">BHI")
_DELIVER = struct.pack(">I", spec.Basic.Deliver.INDEX)
_ACK = struct.Struct(">BHIIQBB")
_TAG = struct.Struct(">QB")

Frame = tuple[int, int, bytes]  # type, channel, payload


class FrameSplitter:
    """Splits a stream of bytes into frames and holds the incomplete rest."""

    def __init__(self) -> None:
        self._rest = b""
        #: The agreed maximum payload; the connection sets it after tune-ok.
        self.limit = 131072

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises AmqpFault 501 if the bytes are not frames.
        """
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        offset, available = 0, len(data)
        while available - offset >= spec.FRAME_HEADER_SIZE:
            kind, channel, size = _HEAD.unpack_from(data, offset)
            if size > self.limit:
                raise AmqpFault(501, f"a frame of {size} bytes exceeds the agreed {self.limit}")
            end = offset + spec.FRAME_HEADER_SIZE + size
            if end >= available:
                break
            if data[end] != spec.FRAME_END:
                raise AmqpFault(501, "a frame does not end with the end mark")
            frames.append((kind, channel, data[offset + spec.FRAME_HEADER_SIZE : end]))
            offset = end + 1
        self._rest = data[offset:]
        return frames


def method_index(payload: bytes) -> int:
    """Return the class and method number at the start of a method frame's payload."""
    if len(payload) < 4:
        raise AmqpFault(502, "a method frame contains no method")
    return int.from_bytes(payload[:4], "big")


def decode_arguments(layout: str, payload: bytes) -> list[Any]:
    """Return a method frame's arguments, which follow its class and method.

    `layout` has one letter for each argument: `H` `I` `Q` unsigned integers, `b` a bit (adjacent bits share octets),
    `s` a short string, `S` a long string as bytes, `t` a table. Raises AmqpFault 502 if the payload does not fit.
    """
    values: list[Any] = []
    offset, bit = 4, 0
    try:
        for letter in layout:
            if letter == "b":
                values.append(bool(payload[offset] >> bit & 1))
                bit += 1
                if bit == 8:
                    offset, bit = offset + 1, 0
                continue
            if bit:
                offset, bit = offset + 1, 0
            value, offset = _decode_one(letter, payload, offset)
            values.append(value)
    except (struct.error, IndexError, UnicodeDecodeError, TableError) as error:
        raise AmqpFault(502, f"cannot read method arguments: {error}") from error
    return values


_INTEGERS = {"H": struct.Struct(">H"), "I": struct.Struct(">I"), "Q": struct.Struct(">Q")}


def _decode_one(letter: str, data: bytes, offset: int) -> tuple[Any, int]:
    if letter == "s":
        start = offset + 1
        end = start + data[offset]
        if end > len(data):
            raise IndexError("a short string exceeds the end")
        return data[start:end].decode(), end
    if letter == "t":
        return decode_table(data, offset)
    if letter == "S":
        start = offset + 4
        end = start + int.from_bytes(data[offset:start], "big")
        if end > len(data):
            raise IndexError("a long string exceeds the end")
        return data[start:end], end
    integer = _INTEGERS[letter]
    (value,) = integer.unpack_from(data, offset)
    return value, offset + integer.size


def encode_method(channel: int, method: amqp_object.Method) -> bytes:
    """Return a complete method frame, encoded by pika."""
    marshalled: bytes = frame.Method(channel, method).marshal()
    return marshalled


def encode_ack(channel: int, tag: int, *, multiple: bool, negative: bool = False) -> bytes:
    """Return a basic.ack or basic.nack frame that confirms publishes."""
    index = spec.Basic.Nack.INDEX if negative else spec.Basic.Ack.INDEX
    return _ACK.pack(METHOD, channel, 13, index, tag, multiple, spec.FRAME_END)


def short_string(text: str) -> bytes:
    """Return an encoded short string."""
    data = text.encode()
    return bytes([len(data)]) + data


def encode_content(channel: int, method: bytes, header: bytes, body: bytes, frame_max: int) -> bytes:
    """Return a method's frames: method, header, the body in parts that fit."""
    pieces = [
        _HEAD.pack(METHOD, channel, len(method)),
        method,
        _END,
        _HEAD.pack(HEADER, channel, len(header)),
        header,
        _END,
    ]
    room = frame_max - OVERHEAD
    if body:
        for start in range(0, len(body), room):
            piece = body[start : start + room]
            pieces += (_HEAD.pack(BODY, channel, len(piece)), piece, _END)
    return b"".join(pieces)


def deliver_arguments(consumer: bytes, tag: int, redelivered: bool, routing: bytes) -> bytes:
    """Return the payload of basic.deliver.

    `consumer` and `routing` are encoded short strings.
    """
    return _DELIVER + consumer + _TAG.pack(tag, redelivered) + routing


def content_method(index: int, parts: Sequence[bytes]) -> bytes:
    """Return the payload of get-ok or return from encoded arguments."""
    return index.to_bytes(4, "big") + b"".join(parts)
