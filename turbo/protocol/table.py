"""Encodes and decodes AMQP field tables, for headers and declarations.

Before it: header payloads from the broker, which anybody may have written. After it: ``properties``, ``message`` and
``amqp.client.methods``. Runs in every process. Pure. It must never raise anything but :class:`TableError`, whatever the
bytes, and never round a float: pika's codec truncates ``1.5`` to ``1``, and a soft limit of 0.5 would become none.

Source of the format: AMQP 0-9-1 section 4.2.5 with RabbitMQ's errata for the type letters.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

#: Most levels of nested tables and arrays. Celery uses two, RabbitMQ's ``x-death`` three.
MAX_DEPTH: Final = 64

_U8 = struct.Struct(">B")
_I8 = struct.Struct(">b")
_U16 = struct.Struct(">H")
_I16 = struct.Struct(">h")
_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_F32 = struct.Struct(">f")
_F64 = struct.Struct(">d")
_DECIMAL = struct.Struct(">Bi")

#: Types of fixed size that struct can unpack. ``s`` is RabbitMQ's 16-bit integer, not the
#: specification's short string, and ``L`` is what py-amqp writes for 64-bit integers: signed.
_FIXED: Final[dict[int, struct.Struct]] = {
    ord(letter): layout
    for letter, layout in {
        "b": _I8, "B": _U8, "U": _I16, "s": _I16, "u": _U16, "I": _I32, "i": _U32,
        "l": _I64, "L": _I64, "f": _F32, "d": _F64,
    }.items()
}  # fmt: skip

_STR, _VOID, _BOOL, _INT, _TABLE, _ARRAY, _BYTES, _DEC, _TIME = (ord(c) for c in "SVtIFAxDT")

#: Length, key and type as bytes -> the key as text and the type. Tables repeat the same two dozen keys, so a slice and
#: a look-up replace decoding. The size is limited, since anybody may choose keys.
_TOKENS: dict[bytes, tuple[str, int]] = {}
_MAX_TOKENS: Final = 512
_MAX_TOKEN_SIZE: Final = 66

# Since 5.3 Celery writes these keys together, in this order, and mostly with these values. If the bytes match, they
# need not be decoded key by key; with any other value they do not match.
_NO_TIMES: Final = b"\x03etaV\x07expiresV\x05groupV\x0bgroup_indexV\x07retriesI\0\0\0\0\ttimelimitA\0\0\0\x02VV"
_NO_TIMES_VALUES: Final[dict[str, object]] = {
    "eta": None, "expires": None, "group": None, "group_index": None, "retries": 0,
}  # fmt: skip
_PLAIN_END: Final = b"\x15replaced_task_nestingI\0\0\0\0\x0fstamped_headersV\x06stampsF\0\0\0\0"
# Pseudo types of the keys before such a run of bytes; anything may follow them.
_RUN: Final = -1
_END_RUN: Final = -2
_RUN_SIZE: Final = len(_NO_TIMES)
_END_SIZE: Final = len(_PLAIN_END) + 1
_TOKENS[b"\x06shadowV"] = ("shadow", _RUN)
_TOKENS[b"\x0dignore_resultt"] = ("ignore_result", _END_RUN)


class TableError(ValueError):
    """The bytes are not a field table, or the mapping cannot be encoded as one."""


def decode_table(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[dict[str, object], int]:
    """Decode the table whose 4-byte length is at ``offset``.

    Return it and the offset after it. Strings that are not UTF-8 are returned as bytes, keys that are not with
    surrogate escapes. Timestamps become naive datetimes in UTC, or stay integers outside datetime's range. The last
    value of a repeated key wins. Raises :class:`TableError` for anything that is not a complete table.
    """
    if type(data) is not bytes:
        data = bytes(data)
    if offset < 0:
        raise TableError(f"negative offset {offset}")
    try:
        start = offset + 4
        end = start + _U32.unpack_from(data, offset)[0]
        if end > len(data):
            raise TableError("the table is longer than the data")
        return _read_table(data, start, end, 0), end
    except (struct.error, IndexError) as error:
        raise TableError(f"the table is truncated: {error}") from error


# hot: bench/protocol.py (decode_header), once a task in the child
def _read_table(data: bytes, at: int, end: int, depth: int) -> dict[str, object]:
    """Decode entries from ``at`` to ``end``, which lies within ``data``.

    Lengths are not checked one by one: an item beyond ``end`` is shortened by its slice or ends the loop, and the
    final check refuses the table because its last item does not end at ``end``.
    """
    table: dict[str, object] = {}
    tokens = _TOKENS.get
    u32 = _U32.unpack_from
    while at < end:
        after = at + data[at] + 2
        entry = tokens(data[at:after])
        if entry is None:
            entry = _new_token(data[at:after])
        key, kind = entry
        at = after
        if kind == 83:  # S
            after += 4
            at = after + u32(data, after - 4)[0]
            try:
                table[key] = data[after:at].decode()
            except UnicodeDecodeError:
                table[key] = data[after:at]
        elif kind == 86:  # V
            table[key] = None
        elif kind == _RUN:
            table[key] = None
            if data.startswith(_NO_TIMES, after):
                table.update(_NO_TIMES_VALUES)
                table["timelimit"] = [None, None]
                at = after + _RUN_SIZE
        elif kind == _END_RUN:
            table[key] = data[after] != 0
            if data.startswith(_PLAIN_END, after + 1):
                table["replaced_task_nesting"] = 0
                table["stamped_headers"] = None
                table["stamps"] = {}
                at = after + _END_SIZE
            else:
                at = after + 1
        elif kind == 116:  # t
            table[key] = data[after] != 0
            at = after + 1
        elif kind == 73:  # I
            table[key] = _I32.unpack_from(data, after)[0]
            at = after + 4
        else:
            table[key], at = _read_item(data, after, end, kind, depth)
    if at != end:
        raise TableError("an item exceeds the end of its table")
    return table


def _new_token(token: bytes) -> tuple[str, int]:
    """Decode a new key, and cache it if there is room."""
    if len(token) != token[0] + 2:
        raise TableError("a key exceeds the end of the data")
    entry = (token[1:-1].decode("utf-8", "surrogateescape"), token[-1])
    if len(_TOKENS) < _MAX_TOKENS and len(token) <= _MAX_TOKEN_SIZE:
        _TOKENS[token] = entry
    return entry


def _read_item(data: bytes, at: int, end: int, kind: int, depth: int) -> tuple[object, int]:
    """Decode one value of the type ``kind``; return it and the offset after it."""
    layout = _FIXED.get(kind)
    if layout is not None:
        return layout.unpack_from(data, at)[0], at + layout.size
    if kind == _VOID:
        return None, at
    if kind == _BOOL:
        return data[at] != 0, at + 1
    if kind == _TIME:
        return _read_timestamp(_U64.unpack_from(data, at)[0]), at + 8
    if kind == _DEC:
        scale, digits = _DECIMAL.unpack_from(data, at)
        return _read_decimal(scale, digits), at + 5
    if kind not in (_STR, _BYTES, _TABLE, _ARRAY):
        raise TableError(f"unknown type {kind:#04x}")
    start = at + 4
    stop = start + _U32.unpack_from(data, at)[0]
    if stop > end:
        raise TableError("an item exceeds the end of its table")
    if kind == _TABLE:
        return _read_table(data, start, stop, _deeper(depth)), stop
    if kind == _ARRAY:
        return _read_array(data, start, stop, _deeper(depth)), stop
    value = data[start:stop]
    if kind == _BYTES:
        return value, stop
    # Only text in arrays comes here; ``_read_table`` decodes its own.
    try:
        return value.decode(), stop
    except UnicodeDecodeError:
        return value, stop


def _read_array(data: bytes, at: int, end: int, depth: int) -> list[object]:
    values: list[object] = []
    while at < end:
        value, at = _read_item(data, at + 1, end, data[at], depth)
        values.append(value)
    if at != end:
        raise TableError("an item exceeds the end of its array")
    return values


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise TableError(f"tables are nested more than {MAX_DEPTH} deep")
    return depth + 1


def _read_timestamp(seconds: int) -> datetime | int:
    try:
        # Without a time zone, as py-amqp returns it to Celery's programs.
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return seconds


def encode_table(mapping: Mapping[str, object]) -> bytes:
    """Encode a mapping as a table with its 4-byte length in front.

    Values may be bool, int (32 or 64 bits), float, Decimal, str, bytes, datetime (naive means UTC), None, lists, tuples
    and mappings. Text and bytes are both written as long strings, as Celery's clients do, so bytes that are UTF-8 are
    decoded as text. Raises :class:`TableError` for other types, and for values that do not fit their type.
    """
    body = _write_table(mapping, 0)
    return _U32.pack(len(body)) + body


# hot: bench/protocol.py (encode_header), once a message published
def _write_table(mapping: Mapping[Any, object], depth: int) -> bytes:
    parts: list[bytes] = []
    known = _KEYS.get
    for key, value in mapping.items():
        name = known(key) if type(key) is str else None
        parts.append(_short_key(key) if name is None else name)
        # Nearly half of a task's headers are None, and all keys are cached: function calls would cost more than the
        # rest.
        parts.append(b"V" if value is None else _write_item(value, depth))
    return b"".join(parts)


def _short_key(key: object) -> bytes:
    found = _KEYS.get(key) if type(key) is str else None
    if found is not None:
        return found
    if not isinstance(key, str):
        raise TableError(f"a key must be text, not {type(key).__name__}")
    raw = _text(key)
    if len(raw) > 255:
        raise TableError(f"a key has {len(raw)} bytes; the maximum is 255")
    encoded = bytes((len(raw),)) + raw
    if len(_KEYS) < _MAX_TOKENS:
        _KEYS[key] = encoded
    return encoded


#: Keys -> their encoded form. Limited in size like the tokens.
_KEYS: dict[str, bytes] = {}

_LIMITS_UNSET: Final = b"A\0\0\0\x02VV"


# hot: bench/protocol.py (encode_header), once a message published
def _write_item(value: Any, depth: int) -> bytes:
    kind = type(value)
    if kind is str:
        try:
            raw: bytes = value.encode()
        except UnicodeEncodeError:
            raw = _text(value)
        return b"S" + _U32.pack(len(raw)) + raw
    if value is None:
        return b"V"
    if kind is int:
        if -0x80000000 <= value <= 0x7FFFFFFF:
            return b"I" + _I32.pack(value)
        return _write_long(value)
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    return _write_other(value, depth)


def _write_other(value: object, depth: int) -> bytes:
    """Encode values whose type is not exactly str, NoneType, int or bool."""
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and value[0] is None and value[1] is None:
            return _LIMITS_UNSET
        deeper = _deeper(depth)
        body = b"".join([_write_item(item, deeper) for item in value])
        return b"A" + _U32.pack(len(body)) + body
    if isinstance(value, Mapping):
        body = _write_table(value, _deeper(depth))
        return b"F" + _U32.pack(len(body)) + body
    if isinstance(value, float):
        return b"d" + _F64.pack(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        return b"S" + _U32.pack(len(raw)) + raw
    if isinstance(value, datetime):
        return _write_timestamp(value)
    if isinstance(value, Decimal):
        return _write_decimal(value)
    if isinstance(value, str):
        # Not str(value), which differs from the text for an enum.
        raw = _text(str.__str__(value))
        return b"S" + _U32.pack(len(raw)) + raw
    if isinstance(value, int):
        return _write_item(int(value), depth)
    raise TableError(f"a header cannot carry {type(value).__name__}")


def _text(value: str) -> bytes:
    """Encode text.

    Lone surrogates that stand for undecodable bytes become those bytes again.
    """
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _write_long(value: int) -> bytes:
    if not -(2**63) <= value < 2**63:
        raise TableError("an integer does not fit 64 bits")
    return b"l" + _I64.pack(value)


def _write_timestamp(value: datetime) -> bytes:
    seconds = int(value.replace(microsecond=0, tzinfo=value.tzinfo or UTC).timestamp())
    if seconds < 0:
        raise TableError("a time is before 1970")
    return b"T" + _U64.pack(seconds)


def _read_decimal(scale: int, digits: int) -> Decimal:
    # Built from its parts: arithmetic could round or raise, depending on the thread's decimal context.
    return Decimal((digits < 0, tuple(map(int, str(abs(digits)))), -scale))


def _write_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise TableError(f"{value} does not fit a decimal")
    places: int = exponent if any(digits) else 0
    # 2**31 has ten digits, so a number with more than ten extra places cannot fit.
    number = int("".join(map(str, digits))) * 10 ** max(places, 0) if places <= 10 else 2**31
    scale = max(-places, 0)
    if number >= 2**31 or scale > 255:
        raise TableError(f"{value} does not fit a decimal")
    return b"D" + _DECIMAL.pack(scale, -number if sign else number)
