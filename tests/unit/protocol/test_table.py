"""Field tables: every type, every limit, every kind of damage."""

from __future__ import annotations

import decimal
import enum
import importlib
import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tests.harness.ids import named
from turbo.protocol.table import MAX_DEPTH, TableError, decode_table, encode_table


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 7


def table(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def one(kind: bytes, value: bytes) -> bytes:
    return table(b"\x01k" + kind + value)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (b"t", b"\x01", True),
        (b"t", b"\x00", False),
        (b"b", b"\xff", -1),
        (b"B", b"\xff", 255),
        (b"U", b"\xff\xfe", -2),
        (b"s", b"\xff\xfe", -2),
        (b"u", b"\xff\xfe", 65534),
        (b"I", b"\x80\0\0\0", -(2**31)),
        (b"i", b"\xff\xff\xff\xff", 2**32 - 1),
        (b"l", struct.pack(">q", -(2**63)), -(2**63)),
        (b"L", struct.pack(">q", -1000), -1000),
        (b"f", struct.pack(">f", 1.5), 1.5),
        (b"d", struct.pack(">d", 0.1), 0.1),
        (b"D", b"\x02" + struct.pack(">i", -110), Decimal("-1.10")),
        (b"D", b"\xff" + struct.pack(">i", 1), Decimal(1).scaleb(-255)),
        (b"S", b"\0\0\0\x03\xe2\x98\x83", "☃"),
        (b"S", b"\0\0\0\x02\xff\xfe", b"\xff\xfe"),
        (b"x", b"\0\0\0\x02ab", b"ab"),
        (b"V", b"", None),
        (b"T", struct.pack(">Q", 86400), datetime(1970, 1, 2)),
        (b"T", struct.pack(">Q", 2**64 - 1), 2**64 - 1),
        (b"T", struct.pack(">Q", 253402300800), 253402300800),
        (b"A", b"\0\0\0\0", []),
        (b"A", b"\0\0\0\x08VS\0\0\0\x01at\x01"[:12] + b"", None),
        (b"F", b"\0\0\0\x04\x02abV", {"ab": None}),
    ],
    ids=str,
)
@pytest.mark.row("WP13")
def test_decodes_every_type(kind: bytes, raw: bytes, value: object) -> None:
    if kind == b"A" and raw != b"\0\0\0\0":
        raw, value = b"\0\0\0\x09VS\0\0\0\x01at\x01", [None, "a", True]
    found, end = decode_table(one(kind, raw))
    assert found == {"k": value}
    assert type(found["k"]) is type(value)
    assert end == len(one(kind, raw))


def test_floats_are_exact_and_may_be_infinite() -> None:
    values = {"a": 0.1, "b": -0.0, "c": math.inf, "d": 5e-324, "e": 1.7976931348623157e308}
    assert decode_table(encode_table(values))[0] == values
    assert math.isnan(decode_table(encode_table({"a": math.nan}))[0]["a"])  # type: ignore[arg-type]


def test_decodes_from_an_offset_of_any_buffer() -> None:
    data = b"\xff\xff" + encode_table({"a": 1}) + b"rest"
    for buffer in (data, bytearray(data), memoryview(data)):
        assert decode_table(buffer, 2) == ({"a": 1}, len(data) - 4)


def test_last_of_a_repeated_key_counts() -> None:
    assert decode_table(table(b"\x01aV\x01at\x01"))[0] == {"a": True}


def test_keys_that_are_not_text_survive_the_round() -> None:
    data = table(b"\x02\xff\xfeV")
    found, _ = decode_table(data)
    assert encode_table(found) == data


def test_keys_beyond_the_remembered_ones_are_decoded_all_the_same() -> None:
    keys = {f"key-{number}": number for number in range(1500)}
    for _ in range(2):
        assert decode_table(encode_table(keys))[0] == keys
    long = {"x" * 255: 1}
    assert decode_table(encode_table(long))[0] == long


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05\x01aV",
        table(b"\x05aV"),
        table(b"\x01a"),
        table(b"\x01aZ"),
        table(b"\x01aI\0\0\0"),
        table(b"\x01aS\0\0\0\x05ab"),
        table(b"\x01aS\xff\xff\xff\xffab"),
        table(b"\x01ax\0\0\0\x05ab"),
        table(b"\x01at"),
        table(b"\x01aA\0\0\0\x05V"),
        table(b"\x01aA\0\0\0\x02VI"),
        table(b"\x01aA\0\0\0\x02It"),
        table(b"\x01aF\0\0\0\x03\x01aI") + b"\0\0\0\0",
        table(b"\x01aF\0\0\0\x09V"),
        table(b"\x01aT\0\0"),
        table(b"\x01aD\0\0\0"),
        table(b"\x01ad\0\0\0"),
        table(b"\x01"),
        table(b"\xff" * 40),
        table(b"\x01aA\0\0\0\x02\x01Z"),
        table(b"\x01aA\0\0\0\x06S\0\0\0\x05a") + b"bcde",
        # the runs that are decoded at once, cut short
        table(b"\x06shadowV\x03etaV\x07expires"),
        table(b"\x0dignore_resultt"),
    ],
)
def test_damage_is_a_table_error(data: bytes) -> None:
    with pytest.raises(TableError):
        decode_table(data)


def test_an_item_may_not_reach_into_what_follows_its_table() -> None:
    with pytest.raises(TableError):
        decode_table(b"\0\0\0\x07\x01aS\0\0\0\x04" + b"abcdefgh")
    with pytest.raises(TableError):
        decode_table(
            b"\0\0\0\x0f\x06shadowV\x03etaV\x07expiresV\x05groupV\x0bgroup_indexV\x07retriesI\0\0\0\0"
            b"\ttimelimitA\0\0\0\x02VV"
        )


def test_negative_offset_is_refused() -> None:
    with pytest.raises(TableError):
        decode_table(encode_table({}), -4)


def nested(depth: int, kind: bytes) -> bytes:
    body = b""
    for _ in range(depth):
        item = kind + len(body).to_bytes(4, "big") + body
        body = item if kind == b"A" else b"\x01a" + item
    return table(body if kind == b"F" else b"\x01a" + body)


@pytest.mark.parametrize("kind", [b"A", b"F"])
def test_nesting_is_bounded(kind: bytes) -> None:
    decode_table(nested(MAX_DEPTH, kind))
    for depth in (MAX_DEPTH + 1, 2000):
        with pytest.raises(TableError, match="deep"):
            decode_table(nested(depth, kind))


def test_encoding_is_bounded_too() -> None:
    endless: dict[str, object] = {}
    endless["self"] = endless
    looped: list[object] = [1]
    looped.append(looped)
    for value in (endless, {"a": looped}):
        with pytest.raises(TableError, match="deep"):
            encode_table(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (2**31 - 1, 2**31 - 1),
        (-(2**31), -(2**31)),
        (2**31, 2**31),
        (-(2**63), -(2**63)),
        ("", ""),
        (b"\xff", b"\xff"),
        (bytearray(b"\xfe"), b"\xfe"),
        (memoryview(b"\xfd"), b"\xfd"),
        (b"text", "text"),
        ((1, 2), [1, 2]),
        ([None, None], [None, None]),
        ((None, None), [None, None]),
        ({"a": [{}]}, {"a": [{}]}),
        (Decimal("1.10"), Decimal("1.10")),
        (Decimal("1E+3"), Decimal(1000)),
        (Colour.RED, "red"),
        (Level.HIGH, 7),
        (None, None),
        (datetime(2031, 1, 2, 3, 4, 5, 678), datetime(2031, 1, 2, 3, 4, 5)),
        (datetime(2031, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2031, 1, 1, 22)),
        ("\ud800", b"\xed\xa0\x80"),
        ("\udcff", b"\xff"),
    ],
    ids=named,
)
def test_encodes_what_it_decodes(value: object, expected: object) -> None:
    found = decode_table(encode_table({"k": value}))[0]["k"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        2**63,
        -(2**63) - 1,
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal(2**31),
        Decimal("1E+30"),
        Decimal("1E-300"),
        Decimal("1E+1000000"),
        Decimal("1.23456789012345"),
        datetime(1969, 1, 1),
        1j,
    ],
    ids=named,
)
def test_what_does_not_fit_is_a_table_error(value: object) -> None:
    with pytest.raises(TableError):
        encode_table({"k": value})


def test_keys_must_be_short_text() -> None:
    with pytest.raises(TableError, match="text"):
        encode_table({1: 2})  # type: ignore[dict-item]
    with pytest.raises(TableError, match="255"):
        encode_table({"é" * 128: 1})
    assert decode_table(encode_table({"é" * 127: 1}))[0] == {"é" * 127: 1}


def test_a_time_beyond_the_calendar_travels_as_its_number() -> None:
    late = datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))
    assert decode_table(encode_table({"k": late}))[0]["k"] == 253402300800 + 23 * 3600 - 1


def test_decimals_do_not_depend_on_the_threads_context() -> None:
    with decimal.localcontext() as context:
        context.prec = 2
        context.traps[decimal.Inexact] = True
        assert decode_table(encode_table({"k": Decimal("12345.678")}))[0] == {"k": Decimal("12345.678")}
    assert decode_table(encode_table({"k": Decimal("0E-300")}))[0] == {"k": Decimal(0)}


def test_arrays_hold_text_bytes_and_what_is_no_text() -> None:
    raw = b"S\0\0\0\x01a" + b"S\0\0\0\x01\xff" + b"x\0\0\0\x01b" + b"t\0"
    found, _ = decode_table(one(b"A", len(raw).to_bytes(4, "big") + raw))
    assert found == {"k": ["a", b"\xff", b"b", False]}
    with pytest.raises(TableError):
        decode_table(one(b"A", b"\0\0\0\x03It\x01") + b"\0\0\0")


@pytest.mark.row("WP17")
def test_times_are_what_celerys_programs_get() -> None:
    amqp = importlib.import_module("amqp.serialization")
    table = {"naive": datetime(2024, 5, 1, 12, 0, 0, 123456), "aware": datetime(2024, 5, 1, 12, tzinfo=UTC)}
    packed = amqp.dumps("F", [table])
    assert encode_table(table) == packed
    assert decode_table(packed)[0] == amqp.loads("F", packed, 0)[0][0]
