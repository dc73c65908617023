"""What the master learns without decoding, and that no text within a message can make it believe otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.goldens import GOLDENS, Golden, golden
from turbo.protocol.building import build
from turbo.protocol.peek import ETA, EXPIRES, LIMITS, UNKNOWN, peek, plain_texts, task_id, task_name
from turbo.protocol.properties import Properties, decode_header, encode_header

SPOOF = "\x06shadowV\x03etaV\x07expiresV\x05groupV\x0bgroup_indexV\x07retriesI\0\0\0\0\ttimelimitA\0\0\0\x02VV"


def payload(content_type: str | None = "application/json", **options: Any) -> bytes:
    name = options.pop("name", "t")
    task_id = options.pop("task_id", "id-1")
    headers, _, props = build(task_id, name, **options)
    props.headers, props.content_type, props.content_encoding = headers, content_type, "utf-8"
    return encode_header(props, 0)


SETS = {
    "eta": ({"eta": "2031-01-01T00:00:00"}, ETA),
    "expires": ({"expires": "2031-01-01T00:00:00"}, EXPIRES),
    "hard": ({"time_limit": 5}, LIMITS),
    "soft": ({"soft_time_limit": 0.5}, LIMITS),
}
PLAIN: list[dict[str, Any]] = [
    {},
    {"group_id": "g"},
    {"group_id": "g", "group_index": 3},
    {"retries": 4},
    {"shadow": "other"},
    {"retries": 1, "parent_id": "p", "headers": {"x": 1.5}},
    {"group_id": "g" * 300},
    {"group_index": 2**40},
    {"content_type": "text/plain"},
    {"content_type": None},
]


@pytest.mark.parametrize("options", PLAIN, ids=repr)
def test_nothing_set(options: dict[str, Any]) -> None:
    assert peek(payload(**options)) == 0


@pytest.mark.parametrize("options", PLAIN, ids=repr)
@pytest.mark.parametrize("first", SETS)
@pytest.mark.parametrize("second", SETS)
def test_whatever_is_set_is_seen(options: dict[str, Any], first: str, second: str) -> None:
    chosen = {**options, **SETS[first][0], **SETS[second][0]}
    assert peek(payload(**chosen)) == SETS[first][1] | SETS[second][1]


@pytest.mark.parametrize("field", ["name", "task_id", "shadow", "group_id", "argsrepr", "kwargsrepr", "origin"])
@pytest.mark.parametrize("chosen", SETS)
def test_no_text_can_imitate_a_key(field: str, chosen: str) -> None:
    options, expected = SETS[chosen]
    assert peek(payload(**{field: SPOOF}, **options)) == expected
    assert peek(payload(**{field: SPOOF})) == 0


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(sorted(SETS)))
def test_ids_and_names_of_any_length(name: str, task_id: str, chosen: str) -> None:
    options, expected = SETS[chosen]
    assert peek(payload(name=name, task_id=task_id, **options)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"task": "t", "id": "i"},
        {"task": "t", "id": "i", "eta": None, "expires": None},
        {"lang": "py", "task": "t", "id": "i", "timelimit": [None, None]},
    ],
    ids=repr,
)
def test_a_missing_key_means_decode(headers: dict[str, object] | None) -> None:
    assert peek(encode_header(Properties("application/json", "utf-8", headers), 0)) == UNKNOWN


def test_keys_in_another_order_are_found() -> None:
    headers: dict[str, object] = {"timelimit": [None, None], "blob": {"a": [1]}, "expires": "x", "n": 2.5, "eta": None}
    assert peek(encode_header(Properties("application/json", "utf-8", headers), 0)) == EXPIRES


def test_limits_of_another_form_count_as_set() -> None:
    for limits in (None, [], [None], 5):
        headers: dict[str, object] = {"eta": None, "expires": None, "timelimit": limits}
        expected = 0 if limits is None else LIMITS
        assert peek(encode_header(Properties(headers=headers), 0)) == expected


@pytest.mark.row("WP2")
def test_protocol_1_must_be_decoded() -> None:
    assert peek(golden("proto1_eta").header) == UNKNOWN


@pytest.mark.parametrize("name", ["plain", "eta", "limits_float", "group-1", "proto1", "headers"])
def test_no_damage_makes_it_raise_or_say_unset(name: str) -> None:
    whole = golden(name).header
    expected = peek(whole)
    for size in range(len(whole)):
        flags = peek(whole[:size])
        # either enough of the table was there, or it must be decoded, which shows the damage
        assert flags == expected or flags & UNKNOWN


@pytest.mark.parametrize("options", PLAIN, ids=repr)
@pytest.mark.parametrize("text", ["t", "proj.tasks.add", "n\u00e4me", "x" * 300, ""])
def test_name_and_id_are_found_without_decoding(options: dict[str, Any], text: str) -> None:
    message = payload(**{**options, "name": text, "task_id": text[:200] + "-id"})
    assert task_name(message) == (text.encode() or b"")
    assert task_id(message) == f"{text[:200]}-id".encode()


@pytest.mark.parametrize("message", GOLDENS, ids=repr)
def test_name_and_id_of_what_celery_sends(message: Golden) -> None:
    headers = decode_header(message.header)[0].headers or {}
    for found, key in ((task_name(message.header), "task"), (task_id(message.header), "id")):
        assert (None if found is None else found.decode()) == headers.get(key)


@given(st.binary(max_size=200))
def test_nothing_is_found_in_nonsense_without_a_fuss(nonsense: bytes) -> None:
    for message in (nonsense, payload()[:60] + nonsense, payload(None)[: 14 + len(nonsense)]):
        assert isinstance(task_name(message), bytes | None)
        assert isinstance(task_id(message), bytes | None)


def test_a_text_within_another_is_no_id() -> None:
    spoofed = payload(content_type="text/plain", name="\x02idS\x00\x00\x00\x01x", task_id="real")
    assert task_id(spoofed) == b"real"


def _plain(**options: Any) -> tuple[bytes, bytes, bytes, bytes | None, bytes, bytes] | None:
    identifier = "5b1d7a40-8d0e-4c3e-9b0e-0123456789ab"
    headers, body, properties = build(identifier, "some.task", (1,), root_id=identifier, **options)
    properties.headers, properties.content_type, properties.content_encoding = headers, "application/json", "utf-8"
    return plain_texts(encode_header(properties, len(body)))


@pytest.mark.row("EV2")
def test_the_texts_of_a_plain_message() -> None:
    identifier = b"5b1d7a40-8d0e-4c3e-9b0e-0123456789ab"
    assert _plain() == (b"some.task", identifier, identifier, None, b"(1,)", b"{}")
    parent = "a" * 36
    assert _plain(parent_id=parent, argsrepr="a", kwargsrepr="") == (
        b"some.task", identifier, identifier, parent.encode(), b"a", b"",
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"retries": 1}, {"eta": "2030-01-01"}, {"shadow": "x"}, {"group_id": "g"}, {"time_limit": 1.0},
        {"argsrepr": '"'}, {"argsrepr": "\\"}, {"argsrepr": "ü"}, {"kwargsrepr": "\n"}, {"parent_id": "short"},
        {"argsrepr": "\nkwargsreprS\0\0\0\2{}"},
    ],
)  # fmt: skip
def test_a_message_that_is_less_plain_has_to_be_decoded(options: dict[str, Any]) -> None:
    assert _plain(**options) is None


def test_texts_of_nonsense() -> None:
    for header in (b"", b"\0" * 100, b"\xff" * 500):
        assert plain_texts(header) is None
