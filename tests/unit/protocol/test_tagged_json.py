"""JSON: the same meaning as Celery's, whichever of the two libraries did the work."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import math
import sys
import types
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.ids import named
from turbo.exceptions import DecodeError, EncodeError
from turbo.protocol import tagged_json
from turbo.protocol.message import parse_headers
from turbo.protocol.properties import Properties
from turbo.protocol.tagged_json import dumps, loads, register_type

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


class Name(str):
    pass


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Record:
    a: int


class Reduced:
    def __json__(self) -> Any:
        return {"reduced": True}


class Broken:
    def __json__(self) -> Any:
        raise RuntimeError("no")


TAGGED = [
    datetime(2031, 1, 2, 3, 4, 5, 6, UTC),
    datetime(2031, 1, 2),
    datetime(2031, 1, 2, tzinfo=timezone(timedelta(hours=-5))),
    date(2031, 1, 2),
    time(1, 2, 3, 4),
    time(1, tzinfo=UTC),
    Decimal("1.10"),
    Decimal("NaN"),
    uuid.UUID(int=5),
    b"text",
    b"\xff\x00",
    b"",
    {"a": [uuid.UUID(int=5), {"b": Decimal(1)}]},
    [[b"x"]],
]


@pytest.mark.row("WP9")
@pytest.mark.parametrize("value", TAGGED, ids=named)
def test_tagged_types_go_there_and_back(value: object) -> None:
    assert repr(loads(dumps(value))) == repr(value)


@pytest.mark.row("WP9")
@pytest.mark.parametrize(
    ("value", "tag", "inner"),
    [
        (datetime(2031, 1, 2, tzinfo=UTC), "datetime", "2031-01-02T00:00:00+00:00"),
        (date(2031, 1, 2), "date", "2031-01-02"),
        (time(1, 2), "time", "01:02:00"),
        (Decimal("1.10"), "decimal", "1.10"),
        (uuid.UUID(int=5), "uuid", {"hex": "0" * 31 + "5"}),
        (b"text", "bytes", "text"),
        (b"\xff", "base64", "/w=="),
    ],
    ids=named,
)
def test_tags_are_celerys(value: object, tag: str, inner: object) -> None:
    assert json.loads(dumps([value])) == [{"__type__": tag, "__value__": inner}]


@pytest.mark.row("WP10")
@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "1" + "0" * 60,
        "[[1e5, 123456789012345678901234567890.5]]",
        "NaN",
        "[Infinity, -Infinity]",
        '"\\ud800"',
        '{"a": 1, "a": 2}',
        "-0",
        "-0.0",
        "1e400",
        '"\\u00e9\\u2028"',
        '{"__type__": 1}',
        '{"__value__": 1}',
        '{"a": {"__type__": "x", "__value__": 1, "more": 2}}',
        '"' + "9" * 40 + '"',
    ],
)
def test_reads_what_the_standard_library_reads(text: str) -> None:
    expected = json.loads(text)
    for data in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        found = loads(data)
        assert repr(found) == repr(expected)
        assert type(found) is type(expected)


@pytest.mark.row("WP10")
@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**63) - 1,
        [10**50],
        {"a": 2**70},
        float("nan"),
        [float("inf")],
        {"a": [-math.inf]},
        "\ud800",
        ["a\udfff"],
        {1: 2},
        {None: 1, True: 2, 1.5: 3},
        Point(1, [2]),
        (1, (2, 3)),
        Name("n"),
        Level.HIGH,
        OrderedDict(a=1),
        -8,
        -16,
        [-1, -2048],
        "ð\x7f",
        "\x00\x1f\u2028",
        0.1,
        1e300,
        5e-324,
        -0.0,
        [],
        {},
        (),
        None,
        True,
        "",
    ],
    ids=named,
)
def test_writes_what_the_standard_library_writes(value: object) -> None:
    # text compared, so that NaN equals NaN
    assert repr(json.loads(dumps(value))) == repr(json.loads(json.dumps(value)))


def test_odd_nans_are_not_nulls() -> None:
    payload = 0x7FF0000000000001
    for bits in (payload, payload | 1 << 63, 0x7FF8DEADBEEF0000):
        import struct

        odd = struct.unpack(">d", struct.pack(">Q", bits))[0]
        assert json.loads(dumps({"g": [odd]}))["g"][0] != None  # noqa: E711 - NaN is what it must be


@pytest.mark.parametrize("value", [Reduced(), [Reduced()], {"a": Reduced()}], ids=named)
def test_objects_that_reduce_themselves(value: object) -> None:
    assert b"reduced" in dumps(value)


@pytest.mark.row("WP9", "WP10")
@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        frozenset(),
        object(),
        Record(1),
        Colour.RED,
        1j,
        ...,
        {(1, 2): 3},
        bytearray(b"a"),
        memoryview(b"a"),
        Broken(),
        timedelta(1),
        [lambda: 1],
        {"a": {uuid.UUID(int=1): 1}},
        compile("1", "x", "eval"),
    ],
    ids=named,
)
def test_what_json_cannot_carry_is_an_encode_error(value: object) -> None:
    with pytest.raises(EncodeError):
        dumps(value)


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_depth_is_bounded_on_both_ways() -> None:
    assert loads(dumps(deep(300))) == deep(300)
    endless: list[Any] = []
    endless.append(endless)
    for value in (deep(100_000), endless):
        with pytest.raises(EncodeError):
            dumps(value)
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(DecodeError):
            loads(opening * 100_000 + b"1" + closing * 100_000)
        with pytest.raises(DecodeError):
            loads(b'{"__type__": "x", "__value__": ' * 100_000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"'a'",
        b"\xff",
        b'"\xff"',
        b"01",
        b"\xef\xbb\xbf1",
        b"nul",
        b"1 2",
        b'"\x00"',
        "\ud800",
        b"9" * 5000,
        b'{"__type__": "set", "__value__": []}',
        b'{"__type__": ["a"], "__value__": 1}',
        b'{"__type__": "uuid", "__value__": {"hex": "x"}}',
        b'{"__type__": "uuid", "__value__": []}',
        b'{"__type__": "datetime", "__value__": "never"}',
        b'{"__type__": "decimal", "__value__": "x"}',
        b'{"__type__": "bytes", "__value__": 5}',
        b'{"__type__": "base64", "__value__": "a"}',
        b'{"__type__": "date", "__value__": null}',
        b'{"\\u005f_type__": "set", "__value__": []}',
        b'{"__t\\u0079pe__": "set", "__v\\u0061lue__": []}',
    ],
    ids=lambda data: repr(data)[:60],
)
def test_what_is_no_document_is_a_decode_error(data: bytes | str) -> None:
    with pytest.raises(DecodeError):
        loads(data)


def test_an_escaped_tag_is_a_tag() -> None:
    assert loads(b'{"\\u005f_type__": "decimal", "\\u005f_value__": "1.5"}') == Decimal("1.5")


def test_numbers_too_long_to_convert_are_a_decode_error() -> None:
    limit = sys.get_int_max_str_digits()
    with pytest.raises(DecodeError):
        loads(b"[" + b"1" * (limit + 1) + b"]")


def test_types_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagged_json, "_encoders", dict(tagged_json._encoders))
    monkeypatch.setattr(tagged_json, "_decoders", dict(tagged_json._decoders))
    register_type(Record, "record", lambda record: record.a, Record)
    assert loads(dumps([Record(7)])) == [Record(7)]
    register_type(Colour, "colour", lambda colour: colour.name)
    assert loads(dumps(Colour.RED)) == "RED"
    register_type(complex, None, str)
    assert loads(dumps(1j)) == "1j"


class TestKombusTypes:
    """``kombu.utils.json.register_type``, for programs that import kombu; nothing here does."""

    @pytest.fixture(autouse=True)
    def registry(self) -> Iterator[None]:
        json = importlib.import_module("kombu.utils.json")
        kept = dict(json._encoders), dict(json._decoders)
        self.register_type = json.register_type
        yield
        for registry, before in zip((json._encoders, json._decoders), kept, strict=True):
            registry.clear()
            registry.update(before)

    def test_they_travel_as_from_kombu_and_back(self) -> None:
        json = importlib.import_module("kombu.utils.json")
        self.register_type(Record, "record", lambda record: record.a, Record)
        self.register_type(Colour, None, lambda colour: colour.name)
        self.register_type(set, "set", sorted, set)
        value = [Record(7), {"deep": [Record(8)]}, {2, 1}]
        assert loads(dumps(value)) == value
        assert json.loads(dumps(value)) == value
        assert loads(json.dumps(value)) == value
        assert loads(dumps(Colour.RED)) == "RED"

    def test_one_of_its_own_can_be_replaced(self) -> None:
        self.register_type(uuid.UUID, "uuid", lambda value: value.int, lambda number: uuid.UUID(int=number))
        assert dumps(uuid.UUID(int=5)) == b'{"__type__": "uuid", "__value__": 5}'
        assert loads(b'{"__type__": "uuid", "__value__": 5}') == uuid.UUID(int=5)
        self.register_type(bytes, "hex", bytes.hex, bytes.fromhex)
        assert loads(dumps([b"\x01\xff"])) == [b"\x01\xff"]
        assert b"01ff" in dumps(b"\x01\xff")

    def test_what_they_raise_is_an_error_of_the_document(self) -> None:
        self.register_type(Record, "record", lambda record: 1 / 0, Record)
        with pytest.raises(EncodeError, match="division"):
            dumps(Record(1))
        self.register_type(Record, "record", lambda record: record.a, lambda value: 1 / 0)
        with pytest.raises(DecodeError, match="wrong value of type record"):
            loads(dumps(Record(1)))

    def test_kombu_is_not_imported_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.register_type(Record, "record", lambda record: record.a, Record)
        monkeypatch.delitem(sys.modules, "kombu.utils.json")
        with pytest.raises(EncodeError):
            dumps(Record(1))
        with pytest.raises(DecodeError, match="unknown type tag record"):
            loads(b'{"__type__": "record", "__value__": 5}')
        assert "kombu.utils.json" not in sys.modules

    def test_whoever_reads_headers_alone_runs_no_registered_code(self) -> None:
        def explode(value: object) -> object:
            raise AssertionError

        self.register_type(Record, "record", lambda record: record.a, explode)
        body = dumps({"task": "t", "id": "i", "args": [Record(1)], "kwargs": {}})
        found = parse_headers(Properties(content_type="application/json"), body)
        assert (found.task, found.id, found.args) == ("t", "i", ())


def test_djangos_lazy_text_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Promise:
        def __str__(self) -> str:
            return "later"

    module = types.ModuleType("django.utils.functional")
    module.Promise = Promise  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django.utils.functional", module)
    assert loads(dumps([Promise()])) == ["later"]
    with pytest.raises(EncodeError):
        dumps(object())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    max_leaves=12,
)
UNFOLDED = st.datetimes().map(lambda when: when.replace(fold=0))
TIMES = st.times().map(lambda when: when.replace(fold=0))
RICH = st.recursive(
    PLAIN | st.binary() | st.uuids() | UNFOLDED | st.dates() | TIMES | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_mean_what_the_standard_library_means(value: object) -> None:
    assert repr(json.loads(dumps(value))) == repr(json.loads(json.dumps(value)))
    assert repr(loads(json.dumps(value).encode())) == repr(json.loads(json.dumps(value)))


@given(RICH)
def test_rich_values_go_there_and_back(value: object) -> None:
    assert repr(loads(dumps(value))) == repr(value)


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize("digits", [19, 20, 40])
def test_a_long_integer_is_found_wherever_it_stands(offset: int, digits: int) -> None:
    for number in (int("9" * digits), -int("9" * digits)):
        value = ["x" * (5000 + offset), number]
        assert loads(json.dumps(value)) == value
        assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 10**19 - 1, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
def test_integers_about_the_limits_of_64_bits_stay_integers(number: int) -> None:
    for text in (f"[{number}]", f"[1,-0.5,{number}]", f'{{"a": {number}, "b": "2015-01-01"}}'):
        assert repr(loads(text.encode())) == repr(json.loads(text))


@given(
    digits=st.text("0123456789", min_size=19, max_size=19), point=st.integers(0, 18), sign=st.sampled_from(["", "-"])
)
def test_floats_of_19_digits_mean_what_the_standard_library_means(digits: str, point: int, sign: str) -> None:
    text = f"{sign}{digits[:point].lstrip('0') or '0'}.{digits[point:]}"
    assert repr(loads(text.encode())) == repr(json.loads(text))
