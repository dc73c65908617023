"""Content headers and basic.deliver: every property there and back, damage, and the frame of an rpc result."""

from __future__ import annotations

import struct

import pytest

from turbo.protocol.deliver import Deliver, parse_deliver
from turbo.protocol.properties import (
    Properties,
    decode_header,
    encode_header,
    header_table_span,
    result_header_encoder,
)
from turbo.protocol.table import TableError, encode_table

FULL = Properties(
    "text/plain", "latin-1", {"a": 1}, 1, 255, "corr", "reply", "60000", "mid", 2**64 - 1, "type", "user", "app", "cl"
)


def raw(flags: int, rest: bytes = b"", class_id: int = 60) -> bytes:
    return struct.pack(">HHQH", class_id, 0, 5, flags) + rest


@pytest.mark.parametrize(
    "props",
    [
        Properties(),
        FULL,
        Properties(headers={}),
        Properties(content_type="application/json"),
        Properties(content_encoding="utf-8"),
        Properties("application/json", "utf-8"),
        Properties("application/json", "binary", {"x": None}),
        Properties(reply_to="", correlation_id=""),
        Properties(correlation_id="ü☃", reply_to="\udcff\udcfe"),
        Properties(timestamp=0, priority=0, delivery_mode=0),
        *(
            Properties(**{name: "v"})
            for name in ("expiration", "message_id", "type", "user_id", "app_id", "cluster_id")
        ),
    ],
    ids=repr,
)
@pytest.mark.row("WP12")
def test_every_property_goes_there_and_back(props: Properties) -> None:
    assert decode_header(encode_header(props, 2**40)) == (props, 2**40)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\x3c",
        raw(0, b"x"),
        raw(0, class_id=61),
        raw(1),
        raw(2),
        raw(0x8000),
        raw(0x8000, b"\x05abc"),
        raw(0x2000),
        raw(0x2000, b"\0\0\0\x05"),
        raw(0x1000),
        raw(0x0800),
        raw(0x0400, b"\x09abc"),
        raw(0x0400),
        raw(0x0200, b"\x02a"),
        raw(0x0100),
        raw(0x0040, b"\0\0"),
        raw(0x0004, b"\x01"),
        raw(0x0004, b"\x01ab"),
        # the JSON front is there, but the flags speak of other properties
        raw(0x8000, b"\x10application/json\x05utf-8"),
    ],
    ids=repr,
)
def test_damage_is_a_table_error(payload: bytes) -> None:
    with pytest.raises(TableError):
        decode_header(payload)


def test_strings_that_are_not_utf8_survive_the_round() -> None:
    payload = raw(0x8600, b"\x02\xff\xfe" + b"\x02\xc3\x28" + b"\x01\x80")
    props, size = decode_header(payload)
    assert props.content_type == "\udcff\udcfe"
    assert encode_header(props, size) == payload


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("correlation_id", "x" * 256),
        ("reply_to", "é" * 128),
        ("content_type", 5),
        ("priority", 256),
        ("priority", -1),
        ("delivery_mode", "2"),
        ("timestamp", -1),
        ("timestamp", 2**64),
        ("timestamp", "now"),
        ("headers", {"k": object()}),
        ("type", b"bytes"),
        ("expiration", 1000),
    ],
)
def test_what_does_not_fit_is_a_table_error(name: str, value: object) -> None:
    props = Properties()
    setattr(props, name, value)
    with pytest.raises(TableError, match=name if name != "headers" else "header"):
        encode_header(props, 0)


def test_lone_surrogates_that_stand_for_no_byte_are_encoded_as_they_are() -> None:
    props, _ = decode_header(encode_header(Properties(correlation_id="\ud800"), 0))
    assert props.correlation_id == "\udced\udca0\udc80"


@pytest.mark.parametrize("content_type", ["application/json", "a", None])
def test_span_of_the_header_table(content_type: str | None) -> None:
    props = Properties(content_type, "utf-8", {"a": [1]}, 2, correlation_id="c")
    payload = encode_header(props, 9)
    start, end = header_table_span(payload)
    assert payload[start:end] == encode_table({"a": [1]})
    assert header_table_span(encode_header(Properties(content_type), 9)) == (0, 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        raw(0xA000),
        raw(0xE000, b"\x01a"),
        raw(0x2000, b"\0\0\0\x09a"),
        raw(0x2000, class_id=10),
        raw(0xE000, b"\0"),
    ],
    ids=repr,
)
def test_span_of_damage_is_a_table_error(payload: bytes) -> None:
    with pytest.raises(TableError):
        header_table_span(payload)


@pytest.mark.row("WP26")
def test_result_header_is_that_of_celerys_rpc_results() -> None:
    encode = result_header_encoder("application/json", "utf-8", 1)
    for task_id in ("", "6c9b", "ü" * 127):
        props = Properties("application/json", "utf-8", {}, 1, 0, task_id)
        assert encode(task_id, 321) == encode_header(props, 321)
    with pytest.raises(TableError, match="correlation_id"):
        encode("x" * 256, 0)
    with_headers = result_header_encoder("application/json", "utf-8", 2, {"a": 1})
    assert decode_header(with_headers("i", 1))[0].headers == {"a": 1}


def deliver(tag: str, redelivered: int, exchange: str, key: str) -> bytes:
    texts = [text.encode("utf-8", "surrogateescape") for text in (tag, exchange, key)]
    first, second, third = (bytes((len(text),)) + text for text in texts)
    return first + struct.pack(">QB", 77, redelivered) + second + third


@pytest.mark.parametrize("texts", [("ctag", "", "celery"), ("", "ex", ""), ("\udcff", "ü", "k" * 255)])
@pytest.mark.parametrize("redelivered", [0, 1, 3])
def test_deliver(texts: tuple[str, str, str], redelivered: int) -> None:
    tag, exchange, key = texts
    expected = Deliver(tag, 77, redelivered & 1 == 1, exchange, key)
    assert parse_deliver(deliver(tag, redelivered, exchange, key)) == expected


def test_every_cut_of_deliver_is_a_table_error() -> None:
    whole = deliver("ctag", 0, "ex", "key")
    for size in range(len(whole)):
        with pytest.raises(TableError):
            parse_deliver(whole[:size])
    with pytest.raises(TableError):
        parse_deliver(whole + b"x")
