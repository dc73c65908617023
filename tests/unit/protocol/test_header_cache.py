"""The cached decoder against the full one, on captured headers and on damaged ones."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tests.unit.protocol.goldens import GOLDENS
from turbo.exceptions import InvalidTaskError
from turbo.protocol.header_cache import HeaderCache, parse_alike
from turbo.protocol.message import build, parse
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.table import TableError

HEADERS = [golden.header for golden in GOLDENS]


def _call(**changes: object) -> bytes:
    task_id = str(uuid.uuid4())
    options: dict[str, object] = {"args": (), "kwargs": {}, "origin": "gen1@host", "reply_to": "r" * 36}
    options.update(changes)
    args, kwargs = options.pop("args"), options.pop("kwargs")
    headers, _body, properties = build(task_id, "proj.tasks.add", args, kwargs, **options)
    properties.headers = headers
    properties.content_type, properties.content_encoding = "application/json", "utf-8"
    return encode_header(properties, 77)


def test_headers_of_one_shape_are_decoded_from_memory_and_alike() -> None:
    cache = HeaderCache()
    shapes = [_call(args=(number, "x" * number), kwargs={"k": number}) for number in range(50)]
    assert [cache.decode(one) for one in shapes] == [decode_header(one) for one in shapes]
    assert len(cache._shapes) == 1


def test_each_producer_has_a_variant_of_the_shape() -> None:
    cache = HeaderCache()
    for number in range(100):
        header = _call(args=(number,), origin=f"gen{number % 10}@host", reply_to=f"{number % 10:36}")
        properties, size = cache.decode(header)
        assert (properties, size) == decode_header(header)
        # A variant is stored once nothing but its producer is new; later headers are copies of its values.
        assert number < 20 or properties.variant is not None
    (shape,) = cache._shapes.values()
    assert len(shape.variants) == 10


def test_the_variants_of_a_shape_are_bounded() -> None:
    cache = HeaderCache()
    known = _call()
    for number in range(300):
        cache.decode(_call(origin=f"gen{number}@host"))
        # Otherwise no more variants would be stored.
        cache.decode(known)
        (shape,) = cache._shapes.values()
        assert len(shape.variants) <= 64


def test_variants_are_not_stored_while_none_is_used_again() -> None:
    cache = HeaderCache()
    for number in range(300):
        cache.decode(_call(origin=f"gen{number}@host"))
    (shape,) = cache._shapes.values()
    assert len(shape.variants) < 12


def test_what_a_caller_changes_in_one_result_does_not_show_in_the_next() -> None:
    cache = HeaderCache()
    first, second, third = _call(), _call(), _call()
    cache.decode(first)
    properties, _ = cache.decode(second)
    assert properties.headers is not None
    properties.headers["timelimit"][0] = 5  # type: ignore[index]
    properties.headers["stamps"]["a"] = 1  # type: ignore[index]
    properties.headers["own"] = True
    assert cache.decode(third) == decode_header(third)


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: f"{len(header)} bytes")
def test_every_captured_header_twice(header: bytes) -> None:
    cache = HeaderCache()
    expected = decode_header(header)
    assert cache.decode(header) == expected
    assert cache.decode(header) == expected


@settings(max_examples=examples(100))
@given(data=st.data())
def test_damage_is_seen_as_the_full_decoder_sees_it(data: st.DataObject) -> None:
    cache = HeaderCache()
    for header in (*HEADERS, _call(args=(1, 2))):
        try:
            cache.decode(header)
        except TableError:
            continue
    # Without a queue for replies the correlation id is the end.
    others = [_call(args=(1, 2)), _call(parent_id="p" * 36), _call(reply_to=None)]
    cache.decode(_call(reply_to=None))
    damaged = bytearray(data.draw(st.sampled_from([*HEADERS, *others])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 7, 40]))
    broken = bytes(damaged[: len(damaged) - cut])
    try:
        expected = decode_header(broken)
    except TableError:
        with pytest.raises(TableError):
            cache.decode(broken)
        return
    assert repr(cache.decode(broken)) == repr(expected)


def test_headers_that_vary_elsewhere_are_given_up_and_still_decoded() -> None:
    cache = HeaderCache()
    for _ in range(40):
        header = _call(parent_id=str(uuid.uuid4()))
        assert cache.decode(header) == decode_header(header)


_EMBEDS: list[object] = [
    {"callbacks": None, "errbacks": None, "chain": None, "chord": None}, None, {},
    {"callbacks": [{"task": "t", "args": [], "kwargs": {}, "options": {}}], "errbacks": None, "chain": None,
     "chord": None},
    {"callbacks": None, "errbacks": None, "chain": None, "chord": None, "more": 1}, 7,
]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parent_id": "p" * 36, "retries": 3, "shadow": "shown", "reply_to": "r" * 36},
        {"group_id": "g" * 36, "group_index": 2},
        {"expires": "2026-11-30T12:00:00+00:00"},
        {"stamps": {"a": "b"}, "stamped_headers": ["a"]},
        {"time_limit": 5},
        {"root_id": "not a uuid"},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
@pytest.mark.parametrize("embed", _EMBEDS)
@pytest.mark.parametrize(("args", "kwargs"), [([], {}), ([1, "x"], {"k": 2}), ((1,), {}), ({}, {}), ([], [])])
def test_messages_of_one_shape_are_parsed_alike(
    changes: dict[str, object], embed: object, args: object, kwargs: object
) -> None:
    cache = HeaderCache()
    for number in range(4):
        header = _call(args=(number,), **changes)
        body = [args, kwargs, embed]
        properties, _ = cache.decode(header)
        try:
            expected = parse(decode_header(header)[0], body)
        except InvalidTaskError as error:
            with pytest.raises(InvalidTaskError, match=re.escape(str(error))):
                parse_alike(properties, body)
            continue
        found = parse_alike(properties, body)
        assert found == expected
        # A task may change its own.
        found.headers = {**(found.headers or {}), "own": 1}
        if found.timelimit is not None:
            found.timelimit[0] = 9


def test_a_correlation_id_that_cannot_be_encoded_makes_the_message_invalid_each_time() -> None:
    cache = HeaderCache()
    good = decode_header(_call())[0]
    for _ in range(3):
        assert good.headers is not None
        header = encode_header(good, 77)
        old = str(good.correlation_id).encode()
        cut = header.rindex(old)
        bad = header[:cut] + b"\xff" * 36 + header[cut + 36 :]
        for each in (header, bad):
            properties, _ = cache.decode(each)
            if each is bad:
                with pytest.raises(InvalidTaskError, match="correlation_id"):
                    parse_alike(properties, [[], {}, _EMBEDS[0]])
            else:
                parse_alike(properties, [[], {}, _EMBEDS[0]])
