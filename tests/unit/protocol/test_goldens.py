"""Every captured message: our bytes and values against those of Celery's own libraries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.unit.protocol.goldens import GOLDENS, Golden, golden
from turbo.exceptions import ContentDisallowed
from turbo.protocol import compression, content, message
from turbo.protocol.content import accept_set
from turbo.protocol.peek import ETA, EXPIRES, LIMITS, UNKNOWN, peek
from turbo.protocol.properties import Properties, decode_header, encode_header, header_table_span

EVERYTHING = accept_set(["json", "yaml", "pickle", "msgpack"])
LIMIT = 1024 * 1024

everyone = pytest.mark.parametrize("golden", GOLDENS, ids=repr)


def decoded(golden: Golden) -> tuple[Properties, object]:
    props, size = decode_header(golden.header)
    assert size == len(golden.body)
    body = golden.body
    packing = (props.headers or {}).get("compression")
    if packing:
        body = compression.decompress(body, str(packing), LIMIT)
    return props, content.decode(body, props.content_type, props.content_encoding, EVERYTHING)


def test_there_are_goldens_of_both_versions() -> None:
    assert {"5.3", "5.7"} == {one.version for one in GOLDENS}
    assert len(GOLDENS) > 100


@everyone
def test_properties_and_headers_are_what_celery_reads(golden: Golden) -> None:
    props, _ = decode_header(golden.header)
    headers = props.headers or {}
    assert list(headers) == list(golden.headers)
    for key, value in headers.items():
        # py-amqp forgets the zone of timestamps, which is UTC
        shown = value.replace(tzinfo=None) if isinstance(value, datetime) else value
        if golden.name == "surrogate" and isinstance(value, bytes):
            # py-amqp makes text of it that no encoding can carry; here it stays bytes
            shown = value.decode("utf-8", "surrogatepass")
        assert repr(shown) == golden.headers[key], key
    for name, value in golden.properties.items():
        assert getattr(props, name) == value, name


@everyone
def test_encoding_what_was_decoded_gives_the_same_bytes(golden: Golden) -> None:
    props, size = decode_header(golden.header)
    again = encode_header(props, size)
    # RabbitMQ's letter for 64-bit integers is l; py-amqp writes L and reads both
    theirs = golden.header.replace(b"x-longL", b"x-longl").replace(b"x-negativeL", b"x-negativel")
    assert again == theirs


@everyone
def test_body_is_what_celery_reads(golden: Golden) -> None:
    _, found = decoded(golden)
    assert repr(found) == golden.content


@everyone
@pytest.mark.row("WP2", "WP3", "WP4", "WP6", "WP11", "WP12", "WP15", "WP17", "WP18", "WP19")
def test_message_parses_to_the_fields_that_were_sent(golden: Golden) -> None:
    props, body = decoded(golden)
    form = message.identify(props, body)
    parsed = message.parse(props, body)
    fields = (props.headers or {}) if form is message.Form.V2 else body
    assert isinstance(fields, dict)
    assert (parsed.id, parsed.task) == (fields["id"], fields["task"])
    assert parsed.correlation_id == parsed.id
    assert parsed.retries == fields["retries"]
    assert parsed.timelimit == (fields["timelimit"] and list(fields["timelimit"]))
    assert parsed.group == fields["group"]
    assert parsed.group_index == fields["group_index"]
    for name in ("eta", "expires"):
        when = getattr(parsed, name)
        text = fields[name]
        if text is None:
            assert when is None
        else:
            expected = datetime.fromisoformat(text)
            assert when == (expected if expected.tzinfo else expected.replace(tzinfo=UTC))
            assert when.tzinfo is UTC
    if form is message.Form.V2:
        assert isinstance(body, (list, tuple))
        assert repr([parsed.args, parsed.kwargs]) == repr(list(body[:2]))
        assert parsed.ignore_result is fields["ignore_result"]
        assert parsed.origin == fields["origin"]
        assert parsed.argsrepr == (None if golden.name == "surrogate" else fields["argsrepr"])
        embed = body[2]
        for name in ("callbacks", "errbacks", "chain", "chord"):
            assert getattr(parsed, name) == (embed[name] or None)


@everyone
def test_master_reads_the_same_headers_without_the_body(golden: Golden) -> None:
    props, body = decoded(golden)
    full = message.parse(props, body)
    peeked = message.parse_headers(props, golden.body)
    for name in (
        "id",
        "task",
        "retries",
        "eta",
        "expires",
        "timelimit",
        "group",
        "parent_id",
        "root_id",
        "ignore_result",
        "reply_to",
        "correlation_id",
        "headers",
    ):
        assert getattr(peeked, name) == getattr(full, name), name
    assert (peeked.args, peeked.kwargs) == ((), {})


@everyone
def test_peek_never_says_unset_for_what_is_set(golden: Golden) -> None:
    props, _ = decode_header(golden.header)
    headers = props.headers or {}
    flags = peek(golden.header)
    if "eta" not in headers:
        assert flags & UNKNOWN
        return
    expected = (
        (ETA if headers["eta"] is not None else 0)
        | (EXPIRES if headers["expires"] is not None else 0)
        | (LIMITS if headers["timelimit"] != [None, None] else 0)
    )
    assert flags == expected


@everyone
def test_table_span_covers_the_headers(golden: Golden) -> None:
    start, end = header_table_span(golden.header)
    props, _ = decode_header(golden.header)
    if props.headers is None:
        assert (start, end) == (0, 0)
    else:
        assert int.from_bytes(golden.header[start : start + 4], "big") == end - start - 4


@pytest.mark.parametrize("version", ["5.3", "5.7"])
@pytest.mark.row("WP12", "WP15", "WP16", "WP20")
def test_building_gives_celerys_message_byte_for_byte(version: str) -> None:
    captured = golden("plain", version)
    theirs, _ = decode_header(captured.header)
    headers, body, props = message.build(
        theirs.correlation_id or "",
        "proj.tasks.add",
        (1, 2),
        {},
        origin="gen4242@producer",
        reply_to=theirs.reply_to,
        ignore_result=False,
    )
    encoded, props.content_type, props.content_encoding = content.encode(body, "json")
    props.headers = headers
    assert encode_header(props, len(captured.body)) == captured.header
    assert content.decode(encoded, props.content_type, props.content_encoding, EVERYTHING) == content.decode(
        captured.body, "application/json", "utf-8", EVERYTHING
    )


@pytest.mark.row("WP16")
@pytest.mark.parametrize("name", ["plain", "kwargs", "unicode", "floats", "tagged", "big_ints", "no_arguments"])
def test_arguments_are_shown_as_celery_shows_them(name: str) -> None:
    captured = golden(name)
    props, body = decoded(captured)
    assert isinstance(body, list) and props.headers is not None
    shown = message.saferepr(tuple(body[0])), message.saferepr(body[1])
    theirs = props.headers["argsrepr"], props.headers["kwargsrepr"]
    # control characters are ours to escape: they would forge log lines
    assert shown == tuple(str(text).translate({0: "\\x00", 31: "\\x1f", 0x2028: "\\u2028"}) for text in theirs)


@pytest.mark.row("WP7")
@pytest.mark.parametrize("name", ["pickle", "yaml", "msgpack"])
def test_only_json_is_accepted_unless_asked_for(name: str) -> None:
    captured = golden(name)
    props, _ = decode_header(captured.header)
    with pytest.raises(ContentDisallowed, match=props.content_type):
        content.decode(captured.body, props.content_type, props.content_encoding, accept_set(None))


@pytest.mark.row("WP13")
def test_floats_in_headers_stay_floats() -> None:
    props, _ = decode_header(golden("limits_float").header)
    assert props.headers is not None
    assert props.headers["timelimit"] == [2.5, 0.5]
    assert message.parse_headers(props, b"").timelimit == [2.5, 0.5]
