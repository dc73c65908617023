"""AMQP field tables: bytes to a dict and back, totally.

Place: beneath ``protocol.properties``; every process uses it. It decodes whatever RabbitMQ delivers: floats are
exact, times out of range stay numbers, text that is not UTF-8 stays bytes. The only error is :class:`TableError`.
It must never recurse without bound, since nesting comes from the wire.

Source of the format: AMQP 0-9-1 with RabbitMQ's errata of field types (t b B s u I i l L f d D S x A F T V).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

#: Deepest nesting of tables and arrays that is decoded or encoded.
MAX_DEPTH: Final = 64

_U16 = struct.Struct(">H").unpack_from
_I16 = struct.Struct(">h").unpack_from
_U32 = struct.Struct(">I").unpack_from
_I32 = struct.Struct(">i").unpack_from
_U64 = struct.Struct(">Q").unpack_from
_I64 = struct.Struct(">q").unpack_from
_F32 = struct.Struct(">f").unpack_from
_F64 = struct.Struct(">d").unpack_from
_I8 = struct.Struct(">b").unpack_from

_PACK_U32 = struct.Struct(">I").pack
_PACK_I32 = struct.Struct(">ci").pack
_PACK_I64 = struct.Struct(">cq").pack
_PACK_F64 = struct.Struct(">cd").pack
_PACK_U64 = struct.Struct(">cQ").pack
_PACK_DECIMAL = struct.Struct(">cBi").pack

#: Decoded keys: the same few names come with every message.
_names: dict[bytes, str] = {}
_MAX_NAMES: Final = 512

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TableError(ValueError):
    """A table whose bytes are broken, or a value that a table cannot carry."""


def decode_table(data: bytes | memoryview, offset: int = 0) -> tuple[dict[str, object], int]:
    """Decode the table at ``offset``; return it and the offset behind it.

    Keys that are not UTF-8 are decoded as Latin-1, since a key must be text. Raises TableError.
    """
    if not isinstance(data, bytes):
        data = bytes(data)
    try:
        return _table(data, offset, 0)
    except (struct.error, IndexError) as error:
        raise TableError(f"table ends early: {error}") from None


def _name(raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = raw.decode("latin-1")
    if len(_names) < _MAX_NAMES and len(raw) <= 64:
        _names[raw] = name
    return name


def _table(data: bytes, offset: int, depth: int) -> tuple[dict[str, object], int]:  # hot: bench trace
    if depth > MAX_DEPTH:
        raise TableError(f"tables are nested deeper than {MAX_DEPTH}")
    end = offset + 4 + _U32(data, offset)[0]
    if end > len(data):
        raise TableError("table is longer than its data")
    offset += 4
    found: dict[str, object] = {}
    names = _names
    u32 = _U32
    while offset < end:
        at = offset + 1 + data[offset]
        raw = data[offset + 1 : at]
        key = names.get(raw) or _name(raw)
        kind = data[at]
        at += 1
        if kind == 0x53:  # S: long string
            offset = at + 4 + u32(data, at)[0]
            if offset > end:
                raise TableError(f"string {key!r} is longer than its table")
            text = data[at + 4 : offset]
            try:
                found[key] = text.decode()
            except UnicodeDecodeError:
                found[key] = text
        elif kind == 0x56:  # V: none
            found[key] = None
            offset = at
        elif kind == 0x49:  # I: 32-bit integer
            found[key] = _I32(data, at)[0]
            offset = at + 4
        elif kind == 0x74:  # t: truth
            found[key] = data[at] != 0
            offset = at + 1
        else:
            found[key], offset = _value(data, at, kind, depth)
    if offset != end:
        raise TableError("last value is longer than its table")
    return found, offset


def _array(data: bytes, offset: int, depth: int) -> tuple[list[object], int]:
    if depth > MAX_DEPTH:
        raise TableError(f"arrays are nested deeper than {MAX_DEPTH}")
    end = offset + 4 + _U32(data, offset)[0]
    if end > len(data):
        raise TableError("array is longer than its data")
    offset += 4
    found: list[object] = []
    while offset < end:
        value, offset = _value(data, offset + 1, data[offset], depth)
        found.append(value)
    if offset != end:
        raise TableError("last item is longer than its array")
    return found, offset


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[object, int]:
    """One value of any type."""
    if kind == 0x56:
        return None, at
    if kind == 0x53 or kind == 0x78:  # S, x
        end = at + 4 + _U32(data, at)[0]
        if end > len(data):
            raise TableError("string is longer than its data")
        text = data[at + 4 : end]
        if kind == 0x78:
            return text, end
        try:
            return text.decode(), end
        except UnicodeDecodeError:
            return text, end
    if kind == 0x46:
        return _table(data, at, depth + 1)
    if kind == 0x41:
        return _array(data, at, depth + 1)
    return _scalar(data, at, kind)


_SCALARS: Final = {
    0x49: (_I32, 4),
    0x69: (_U32, 4),
    0x6C: (_I64, 8),
    0x4C: (_I64, 8),
    0x64: (_F64, 8),
    0x66: (_F32, 4),
    0x62: (_I8, 1),
    0x73: (_I16, 2),
    0x55: (_I16, 2),
    0x75: (_U16, 2),
}


def _scalar(data: bytes, at: int, kind: int) -> tuple[object, int]:
    known = _SCALARS.get(kind)
    if known is not None:
        return known[0](data, at)[0], at + known[1]
    if kind == 0x74:
        return data[at] != 0, at + 1
    if kind == 0x42:
        return data[at], at + 1
    if kind == 0x54:
        return _time(_U64(data, at)[0]), at + 8
    if kind == 0x44:
        scale, number = data[at], _I32(data, at + 1)[0]
        return Decimal(number).scaleb(-scale), at + 5
    raise TableError(f"unknown field type {bytes([kind])!r}")


def _time(seconds: int) -> datetime | int:
    """A timestamp, or its number where no calendar reaches (4 digits of year)."""
    if seconds < 253_402_300_800:
        return datetime.fromtimestamp(seconds, UTC)
    return seconds


def encode_table(mapping: Mapping[str, object]) -> bytes:
    """Encode a mapping with its length in front. Raises TableError naming the key that cannot travel."""
    return _encode_table(mapping, 0)


def _encode_table(mapping: Mapping[str, object], depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise TableError(f"tables are nested deeper than {MAX_DEPTH}")
    parts: list[bytes] = []
    append = parts.append
    for key, value in mapping.items():
        name = key.encode() if isinstance(key, str) else str(key).encode()
        if len(name) > 255:
            raise TableError(f"key {key[:40]!r}… is longer than 255 bytes")
        append(bytes((len(name),)))
        append(name)
        try:
            append(_encode_value(value, depth))
        except TableError as error:
            raise TableError(f"{key}: {error}") from None
    body = b"".join(parts)
    return _PACK_U32(len(body)) + body


def _encode_value(value: object, depth: int) -> bytes:
    """Encode one value with its type in front."""
    if value is None:
        return b"V"
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return b"S" + _PACK_U32(len(raw)) + raw
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if -0x80000000 <= value <= 0x7FFFFFFF:
            return _PACK_I32(b"I", value)
        if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
            return _PACK_I64(b"l", value)
        raise TableError("an integer beyond 64 bits cannot travel in a header")
    if isinstance(value, float):
        return _PACK_F64(b"d", value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        return b"S" + _PACK_U32(len(raw)) + raw
    if isinstance(value, (list, tuple, set, frozenset)):
        if depth >= MAX_DEPTH:
            raise TableError(f"arrays are nested deeper than {MAX_DEPTH}")
        body = b"".join([_encode_value(item, depth + 1) for item in value])
        return b"A" + _PACK_U32(len(body)) + body
    if isinstance(value, Mapping):
        return b"F" + _encode_table(value, depth + 1)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        seconds = int((moment - _EPOCH).total_seconds())
        return _PACK_U64(b"T", max(seconds, 0))
    if isinstance(value, Decimal):
        return _encode_decimal(value)
    raise TableError(f"a {type(value).__name__} cannot travel in a header")


def _encode_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or exponent > 0 or -exponent > 255:
        raise TableError(f"decimal {value} cannot travel in a header")
    number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    if not -0x80000000 <= number <= 0x7FFFFFFF:
        raise TableError(f"decimal {value} cannot travel in a header")
    return _PACK_DECIMAL(b"D", -exponent, number)
