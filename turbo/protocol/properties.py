"""Encodes and decodes a message's content header: properties and headers.

Before it: the payload of a received content-header frame. After it: ``message`` and ``peek``; when encoding, the code
that publishes. Runs in every process. Pure. It must never raise anything but ``TableError``, for headers that cannot be
read or written. Source of the format: AMQP 0-9-1 section 4.2.6, properties of class basic.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from turbo.protocol.table import TableError, decode_table, encode_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BASIC: Final = 60
_HEAD = struct.Struct(">HHQH")
_PREFIX = struct.Struct(">HHQ")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct(">I")

CONTENT_TYPE: Final = 0x8000
CONTENT_ENCODING: Final = 0x4000
HEADERS: Final = 0x2000
DELIVERY_MODE: Final = 0x1000
PRIORITY: Final = 0x0800
CORRELATION_ID: Final = 0x0400
REPLY_TO: Final = 0x0200
EXPIRATION: Final = 0x0100
MESSAGE_ID: Final = 0x0080
TIMESTAMP: Final = 0x0040
TYPE: Final = 0x0020
USER_ID: Final = 0x0010
APP_ID: Final = 0x0008
CLUSTER_ID: Final = 0x0004
_UNKNOWN_FLAGS: Final = 0x0003

#: Content type and encoding of nearly every message, as the property list begins with them.
_JSON_FRONT: Final = b"\x10application/json\x05utf-8"
_JSON_FLAGS: Final = CONTENT_TYPE | CONTENT_ENCODING
_JSON_AT: Final = 14
_JSON_END: Final = _JSON_AT + len(_JSON_FRONT)


@dataclass(slots=True)
class Properties:
    """The properties of class basic; None for an absent one.

    ``timestamp`` is in seconds since 1970.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, object] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None
    #: Shared by all headers that differ in ids and argument texts alone (``header_cache``); None for any other.
    variant: Any = field(default=None, compare=False, repr=False)


# hot: bench/protocol.py, once a task in the child
def decode_header(payload: bytes) -> tuple[Properties, int]:
    """Decode the payload of a content-header frame.

    Return the properties and the body's size in bytes. Short strings that are not UTF-8 are returned with surrogate
    escapes. Raises ``TableError`` for anything that is not exactly one content header of class basic.
    """
    props = Properties()
    try:
        class_id, _weight, size, flags = _HEAD.unpack_from(payload)
        if class_id != _BASIC or flags & _UNKNOWN_FLAGS:
            raise TableError(f"content header of class {class_id} with flags {flags:#06x}")
        if payload.startswith(_JSON_FRONT, _JSON_AT) and flags & _JSON_FLAGS == _JSON_FLAGS:
            props.content_type = "application/json"
            props.content_encoding = "utf-8"
            at = _JSON_END
        else:
            at = _JSON_AT
            if flags & CONTENT_TYPE:
                props.content_type, at = _short(payload, at)
            if flags & CONTENT_ENCODING:
                props.content_encoding, at = _short(payload, at)
        if flags & HEADERS:
            props.headers, at = decode_table(payload, at)
        if flags & DELIVERY_MODE:
            props.delivery_mode = payload[at]
            at += 1
        if flags & PRIORITY:
            props.priority = payload[at]
            at += 1
        if flags & CORRELATION_ID:
            end = at + 1 + payload[at]
            try:
                props.correlation_id = payload[at + 1 : end].decode()
            except UnicodeDecodeError:
                props.correlation_id = payload[at + 1 : end].decode("utf-8", "surrogateescape")
            at = end
        if flags & REPLY_TO:
            end = at + 1 + payload[at]
            try:
                props.reply_to = payload[at + 1 : end].decode()
            except UnicodeDecodeError:
                props.reply_to = payload[at + 1 : end].decode("utf-8", "surrogateescape")
            at = end
        if flags & 0x01FC:
            at = _decode_rare(payload, at, flags, props)
    except (struct.error, IndexError) as error:
        raise TableError(f"the content header is truncated: {error}") from error
    if at != len(payload):
        raise TableError("the content header has bytes after its properties")
    return props, size


def _decode_rare(payload: bytes, at: int, flags: int, props: Properties) -> int:
    """Decode the properties after ``reply_to``, which Celery rarely sends."""
    if flags & EXPIRATION:
        props.expiration, at = _short(payload, at)
    if flags & MESSAGE_ID:
        props.message_id, at = _short(payload, at)
    if flags & TIMESTAMP:
        props.timestamp = _U64.unpack_from(payload, at)[0]
        at += 8
    if flags & TYPE:
        props.type, at = _short(payload, at)
    if flags & USER_ID:
        props.user_id, at = _short(payload, at)
    if flags & APP_ID:
        props.app_id, at = _short(payload, at)
    if flags & CLUSTER_ID:
        props.cluster_id, at = _short(payload, at)
    return at


def _short(payload: bytes, at: int) -> tuple[str, int]:
    # A string beyond the end of the data moves the offset past the end, which decode_header refuses.
    end = at + 1 + payload[at]
    return payload[at + 1 : end].decode("utf-8", "surrogateescape"), end


def header_table_span(payload: bytes) -> tuple[int, int]:
    """Return start and end of the header table in a content header.

    The start is that of its 4-byte length. Both are 0 without a table. Raises ``TableError`` if the payload is shorter
    than its lengths say.
    """
    try:
        class_id, _weight, _size, flags = _HEAD.unpack_from(payload)
        if class_id != _BASIC:
            raise TableError(f"content header of class {class_id}")
        if not flags & HEADERS:
            return 0, 0
        at = _JSON_AT
        if payload.startswith(_JSON_FRONT, at) and flags & _JSON_FLAGS == _JSON_FLAGS:
            at = _JSON_END
        else:
            if flags & CONTENT_TYPE:
                at += 1 + payload[at]
            if flags & CONTENT_ENCODING:
                at += 1 + payload[at]
        end = at + 4 + _U32.unpack_from(payload, at)[0]
    except (struct.error, IndexError) as error:
        raise TableError(f"the content header is truncated: {error}") from error
    if end > len(payload):
        raise TableError("the header table is longer than the content header")
    return at, end


# hot: bench/protocol.py, once a message published
def encode_header(props: Properties, body_size: int) -> bytes:
    """Return the payload of a content header.

    Raises ``TableError``, which names a property that does not fit.
    """
    flags = 0
    parts = [b""]
    if props.content_type is not None:
        flags = CONTENT_TYPE
        parts.append(_encode_short("content_type", props.content_type))
    if props.content_encoding is not None:
        flags |= CONTENT_ENCODING
        parts.append(_encode_short("content_encoding", props.content_encoding))
    if props.headers is not None:
        flags |= HEADERS
        parts.append(encode_table(props.headers))
    if props.delivery_mode is not None:
        flags |= DELIVERY_MODE
        parts.append(_encode_octet("delivery_mode", props.delivery_mode))
    if props.priority is not None:
        flags |= PRIORITY
        parts.append(_encode_octet("priority", props.priority))
    if props.correlation_id is not None:
        flags |= CORRELATION_ID
        parts.append(_encode_short("correlation_id", props.correlation_id))
    if props.reply_to is not None:
        flags |= REPLY_TO
        parts.append(_encode_short("reply_to", props.reply_to))
    if props.expiration is not None:
        flags |= EXPIRATION
        parts.append(_encode_short("expiration", props.expiration))
    for flag, name in _RARE_STRINGS_1:
        flags |= _append_string(parts, flag, name, getattr(props, name))
    if props.timestamp is not None:
        flags |= TIMESTAMP
        parts.append(_encode_timestamp(props.timestamp))
    for flag, name in _RARE_STRINGS_2:
        flags |= _append_string(parts, flag, name, getattr(props, name))
    parts[0] = _HEAD.pack(_BASIC, 0, body_size, flags)
    return b"".join(parts)


_RARE_STRINGS_1: Final = ((MESSAGE_ID, "message_id"),)
_RARE_STRINGS_2: Final = (
    (TYPE, "type"), (USER_ID, "user_id"), (APP_ID, "app_id"), (CLUSTER_ID, "cluster_id"),
)  # fmt: skip


def _append_string(parts: list[bytes], flag: int, name: str, value: str | None) -> int:
    if value is None:
        return 0
    parts.append(_encode_short(name, value))
    return flag


def _encode_short(name: str, value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogateescape" if _escaped(value) else "surrogatepass")
    except AttributeError as error:
        raise TableError(f"{name} must be text, not {type(value).__name__}") from error
    if len(raw) > 255:
        raise TableError(f"{name} of {len(raw)} bytes; the maximum is 255")
    return b"%c%b" % (len(raw), raw)


def _escaped(value: str) -> bool:
    """Whether each lone surrogate in the text is an undecodable byte."""
    return all(not 0xD800 <= code <= 0xDFFF or 0xDC80 <= code <= 0xDCFF for code in map(ord, value))


def _encode_octet(name: str, value: int) -> bytes:
    if not isinstance(value, int) or not 0 <= value <= 255:
        raise TableError(f"{name} must be from 0 to 255, not {value!r}")
    return bytes((value,))


def _encode_timestamp(value: int) -> bytes:
    if not isinstance(value, int) or not 0 <= value < 2**64:
        raise TableError(f"timestamp must be seconds since 1970, not {value!r}")
    return _U64.pack(value)


def result_header_encoder(
    content_type: str,
    content_encoding: str,
    delivery_mode: int,
    headers: Mapping[str, object] | None = None,
) -> Callable[[str, int], bytes]:
    """Return a function ``encode(correlation_id, body_size)`` for similar messages.

    The messages differ only in these two. Everything else is encoded once; rpc results use it. ``encode`` raises
    ``TableError`` for an id of more than 255 bytes. Celery's rpc results have no headers and the priority 0.
    """
    props = Properties(content_type, content_encoding, dict(headers or {}), delivery_mode, 0, "")
    # Class, weight and size are 12 bytes; the empty correlation id is the last byte.
    middle = encode_header(props, 0)[12:-1]
    prefix = _PREFIX.pack

    def encode(correlation_id: str, body_size: int) -> bytes:
        raw = correlation_id.encode()
        if len(raw) > 255:
            raise TableError(f"correlation_id of {len(raw)} bytes; the maximum is 255")
        return b"%b%b%c%b" % (prefix(_BASIC, 0, body_size), middle, len(raw), raw)

    return encode
