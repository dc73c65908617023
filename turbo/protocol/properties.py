"""The content header of a message: AMQP's basic properties and the headers table within.

Place: between the frames that ``amqp`` moves undecoded and ``protocol.message``. The child decodes a delivery's
header with it; clients and children encode what they publish, so that the master only frames bytes. Pure.

Source of the format: AMQP 0-9-1, class basic: class id, weight, body size, property flags, property list.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from turbo.protocol.table import TableError, decode_table, encode_table

_HEAD = struct.Struct(">HHQH")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_CLASS_BASIC: Final = 60

_CONTENT_TYPE: Final = 1 << 15
_CONTENT_ENCODING: Final = 1 << 14
_HEADERS: Final = 1 << 13
_DELIVERY_MODE: Final = 1 << 12
_PRIORITY: Final = 1 << 11
_CORRELATION_ID: Final = 1 << 10
_REPLY_TO: Final = 1 << 9
_EXPIRATION: Final = 1 << 8
_MESSAGE_ID: Final = 1 << 7
_TIMESTAMP: Final = 1 << 6
_TYPE: Final = 1 << 5
_USER_ID: Final = 1 << 4
_APP_ID: Final = 1 << 3
_CLUSTER_ID: Final = 1 << 2
_MORE: Final = 1

#: Decoded short strings that come with every message (content types and encodings).
_texts: dict[bytes, str] = {}
_MAX_TEXTS: Final = 64


@dataclass(slots=True)
class Properties:
    """Basic properties of one message; None means that the property is not set."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, object] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


def _short(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise TableError("short string is longer than the header")
    return data[at + 1 : end].decode("utf-8", "replace"), end


def _known(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    raw = data[at + 1 : end]
    text = _texts.get(raw)
    if text is None:
        text = raw.decode("utf-8", "replace")
        if len(_texts) < _MAX_TEXTS:
            _texts[raw] = text
    return text, end


def decode_header(payload: bytes) -> tuple[Properties, int]:  # hot: bench trace
    """Decode a content-header payload into properties and body size in bytes. Raises TableError."""
    try:
        _class, _weight, size, flags = _HEAD.unpack_from(payload)
        at = 14
        properties = Properties()
        if flags & _CONTENT_TYPE:
            properties.content_type, at = _known(payload, at)
        if flags & _CONTENT_ENCODING:
            properties.content_encoding, at = _known(payload, at)
        if flags & _HEADERS:
            properties.headers, at = decode_table(payload, at)
        if flags & _DELIVERY_MODE:
            properties.delivery_mode = payload[at]
            at += 1
        if flags & _PRIORITY:
            properties.priority = payload[at]
            at += 1
        if flags & _CORRELATION_ID:
            properties.correlation_id, at = _short(payload, at)
        if flags & _REPLY_TO:
            properties.reply_to, at = _short(payload, at)
        if flags & 0x1FD:
            _decode_rare(payload, at, flags, properties)
    except (struct.error, IndexError) as error:
        raise TableError(f"content header ends early: {error}") from None
    return properties, size


def _decode_rare(payload: bytes, at: int, flags: int, properties: Properties) -> None:
    """The properties behind reply_to, which few messages have."""
    if flags & _MORE:
        raise TableError("content header has continued flags, which AMQP 0-9-1 does not define")
    if flags & _EXPIRATION:
        properties.expiration, at = _short(payload, at)
    if flags & _MESSAGE_ID:
        properties.message_id, at = _short(payload, at)
    if flags & _TIMESTAMP:
        seconds = _U64.unpack_from(payload, at)[0]
        at += 8
        properties.timestamp = (
            datetime.fromtimestamp(seconds, UTC) if seconds < 253_402_300_800 else seconds
        )
    if flags & _TYPE:
        properties.type, at = _short(payload, at)
    if flags & _USER_ID:
        properties.user_id, at = _short(payload, at)
    if flags & _APP_ID:
        properties.app_id, at = _short(payload, at)
    if flags & _CLUSTER_ID:
        properties.cluster_id, at = _short(payload, at)


def header_table_span(payload: bytes) -> tuple[int, int]:
    """Offsets of the headers table (its length word included) and behind it; (0, 0) when there is none."""
    try:
        flags = _HEAD.unpack_from(payload)[3]
        at = 14
        if flags & _CONTENT_TYPE:
            at += 1 + payload[at]
        if flags & _CONTENT_ENCODING:
            at += 1 + payload[at]
        if not flags & _HEADERS:
            return 0, 0
        end = at + 4 + _U32.unpack_from(payload, at)[0]
    except (struct.error, IndexError) as error:
        raise TableError(f"content header ends early: {error}") from None
    if end > len(payload):
        raise TableError("headers table is longer than the header")
    return at, end


def _put(parts: list[bytes], text: str, name: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > 255:
        raise TableError(f"{name} is longer than 255 bytes")
    parts.append(bytes((len(raw),)))
    parts.append(raw)


_TEXT_FIELDS: Final = (
    (_EXPIRATION, "expiration"),
    (_MESSAGE_ID, "message_id"),
)
_LAST_FIELDS: Final = (
    (_TYPE, "type"),
    (_USER_ID, "user_id"),
    (_APP_ID, "app_id"),
    (_CLUSTER_ID, "cluster_id"),
)


def encode_header(properties: Properties, body_size: int) -> bytes:
    """Encode the content-header payload of a message with ``body_size`` bytes of body. Raises TableError."""
    flags = 0
    parts: list[bytes] = [b""]
    if properties.content_type is not None:
        flags |= _CONTENT_TYPE
        _put(parts, properties.content_type, "content_type")
    if properties.content_encoding is not None:
        flags |= _CONTENT_ENCODING
        _put(parts, properties.content_encoding, "content_encoding")
    if properties.headers is not None:
        flags |= _HEADERS
        parts.append(encode_table(properties.headers))
    if properties.delivery_mode is not None:
        flags |= _DELIVERY_MODE
        parts.append(bytes((properties.delivery_mode & 0xFF,)))
    if properties.priority is not None:
        flags |= _PRIORITY
        parts.append(bytes((min(max(properties.priority, 0), 255),)))
    if properties.correlation_id is not None:
        flags |= _CORRELATION_ID
        _put(parts, properties.correlation_id, "correlation_id")
    if properties.reply_to is not None:
        flags |= _REPLY_TO
        _put(parts, properties.reply_to, "reply_to")
    for flag, name in _TEXT_FIELDS:
        value = getattr(properties, name)
        if value is not None:
            flags |= flag
            _put(parts, str(value), name)
    if properties.timestamp is not None:
        flags |= _TIMESTAMP
        stamp = properties.timestamp
        parts.append(_U64.pack(int(stamp.timestamp()) if isinstance(stamp, datetime) else stamp))
    for flag, name in _LAST_FIELDS:
        value = getattr(properties, name)
        if value is not None:
            flags |= flag
            _put(parts, value, name)
    parts[0] = _HEAD.pack(_CLASS_BASIC, 0, body_size, flags)
    return b"".join(parts)
