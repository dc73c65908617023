"""No bytes make the protocol raise anything but its own errors, nor take long, nor recurse without end."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.data.malformed import CASES, Case
from tests.harness.examples import examples
from tests.unit.protocol.goldens import GOLDENS
from turbo.exceptions import DecodeError, InvalidTaskError, SerializationError
from turbo.protocol import compression, content, message
from turbo.protocol.content import accept_set
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.peek import UNKNOWN, peek
from turbo.protocol.properties import Properties, decode_header, encode_header, header_table_span
from turbo.protocol.table import TableError, decode_table, encode_table

#: Pickle is left out: it runs what it is given.
ACCEPT = accept_set(["json", "yaml", "msgpack", "text"])
LIMIT = 65_536

headers = st.sampled_from(sorted({one.header for one in GOLDENS}))
bodies = st.sampled_from(sorted({one.body for one in GOLDENS}))


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """A captured message with some bytes changed, cut out or put in."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.integers(0, 3))
        if what == 0 and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif what == 1:
            del data[at : at + draw(st.integers(1, 8))]
        elif what == 2:
            data[at:at] = draw(st.binary(max_size=8))
        else:
            data[at : at + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x01", b"AAAA", b"FFFF"])
            )
    return bytes(data)


def whole_way(header: bytes, body: bytes) -> str:
    """Take a message the way a child takes it; return reject or run."""
    try:
        props, _ = decode_header(header)
        packing = (props.headers or {}).get("compression")
        if packing is not None:
            body = compression.decompress(body, str(packing), LIMIT)
        parsed = message.parse(props, content.decode(body, props.content_type, props.content_encoding, ACCEPT))
    except (TableError, SerializationError, InvalidTaskError) as error:
        str(error).encode("utf-8", "backslashreplace")
        return "reject"
    check(parsed)
    return "run"


def check(parsed: message.TaskMessage) -> None:
    """What every parsed message may be relied upon for."""
    assert type(parsed.id) is str and parsed.id
    assert type(parsed.task) is str and parsed.task
    for text in (
        parsed.id,
        parsed.task,
        parsed.root_id,
        parsed.group,
        parsed.parent_id,
        parsed.reply_to,
        parsed.correlation_id,
    ):
        assert text is None or text.encode() is not None
    assert isinstance(parsed.args, list | tuple) and type(parsed.kwargs) is dict
    assert parsed.retries >= 0
    for when in (parsed.eta, parsed.expires):
        assert when is None or (when.utcoffset() is not None and when.timestamp() is not None)
    for limit in parsed.timelimit or ():
        assert limit is None or limit >= 0


@given(st.binary(max_size=200), st.integers(-2, 10))
def test_tables(data: bytes, offset: int) -> None:
    try:
        found, end = decode_table(data, offset)
    except TableError:
        return
    assert offset + 4 <= end <= len(data)
    assert decode_table(encode_table(found))[0].keys() == found.keys()


@given(mutated(headers))
def test_headers(data: bytes) -> None:
    flags = peek(data)
    assert 0 <= flags < 16
    try:
        header_table_span(data)
    except TableError:
        # the peek may not see it: damage is the child's to find
        pass
    try:
        props, size = decode_header(data)
    except TableError:
        return
    assert decode_header(encode_header(props, size))[0].correlation_id == props.correlation_id
    try:
        parsed = message.parse_headers(props, b"")
    except InvalidTaskError:
        return
    check(parsed)
    # The peek may ask for decoding in vain, but not miss what is set, unless a key was given twice.
    if not flags & UNKNOWN and data.count(b"\x03eta") == data.count(b"\x07expires") == 1:
        assert bool(flags & 1) == ((props.headers or {}).get("eta") is not None)
        assert bool(flags & 2) == ((props.headers or {}).get("expires") is not None)


@given(st.binary(max_size=80))
def test_deliver(data: bytes) -> None:
    try:
        parse_deliver(data)
    except TableError:
        pass


@given(mutated(headers), mutated(bodies))
@settings(max_examples=examples(100))
def test_messages(header: bytes, body: bytes) -> None:
    whole_way(header, body)


@given(
    st.sampled_from(sorted(set(compression.ALIASES) - {"brotli", "zstd", "zstandard"})),
    st.binary(max_size=100) | st.binary(max_size=100).map(zlib.compress),
    st.integers(0, 200),
)
def test_decompression(name: str, data: bytes, limit: int) -> None:
    try:
        assert len(compression.decompress(data, name, limit)) <= limit
    except DecodeError:
        pass


TYPES = st.sampled_from([*sorted(ACCEPT), "application/data", "application/x-unknown", "", None])
CHARSETS = st.sampled_from(
    ["utf-8", "binary", "latin-1", "utf-16", "rot13", "hex", "zlib", "nothing", "", None, "\udcff"]
)


@given(mutated(bodies) | st.binary(max_size=60), TYPES, CHARSETS)
@example(b"!!timestamp 9", "application/x-yaml", None)
def test_content(body: bytes, content_type: str | None, charset: str | None) -> None:
    try:
        content.decode(body, content_type, charset, ACCEPT)
    except SerializationError:
        pass


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.binary(max_size=8)
    | st.datetimes()
    | st.decimals()
    | st.sampled_from(["2031-01-02T03:04:05", "task", "id", {"task": "t"}]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["task", "args", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "task",
        "id",
        "eta",
        "expires",
        "timelimit",
        "group",
        "group_index",
        "retries",
        "root_id",
        "parent_id",
        "shadow",
        "argsrepr",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "taskset",
        "utc",
        "callbacks",
        "chord",
        "args",
        "kwargs",
        "x",
    ]
)


@given(
    st.none() | st.dictionaries(FIELDS, VALUES) | VALUES,
    st.dictionaries(FIELDS, VALUES) | st.lists(VALUES, max_size=4) | VALUES,
    st.booleans(),
)
@settings(max_examples=examples(100))
def test_values_of_any_type_parse_or_are_invalid(given_headers: Any, body: Any, named: bool) -> None:
    if named and isinstance(given_headers, dict):
        given_headers = {"task": "t", "id": "i", **given_headers}
    try:
        check(message.parse(Properties(headers=given_headers), body))
    except InvalidTaskError as error:
        assert len(str(error)) < 1000


@pytest.mark.row("P27")
@pytest.mark.parametrize("case", [case for case in CASES if not case.accept_all], ids=lambda case: case.name)
def test_the_corpus_is_settled_as_it_says(case: Case) -> None:
    """But for pickles: those run what they hold, so a child that may be lost gets them."""
    assert whole_way(case.header(), case.body()) == case.settlement
    assert 0 <= peek(case.header()) < 16


def test_depth_2000() -> None:
    body = b""
    for _ in range(2000):
        body = b"\x01aF" + len(body).to_bytes(4, "big") + body
    with pytest.raises(TableError):
        decode_table(len(body).to_bytes(4, "big") + body)
    assert peek(struct.pack(">HHQH", 60, 0, 0, 0x2000) + len(body).to_bytes(4, "big") + body) & UNKNOWN
