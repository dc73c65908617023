"""Content headers: every part is found and replaced without touching the others."""

from __future__ import annotations

import datetime
from typing import Any

import pika
import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.embedded_broker.dead_letters import dead_letter, put_headers, split_table, with_delivery_count
from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.message import make_message, parse_layout
from turbo.protocol.table import encode_table

SHORT = st.none() | st.text(max_size=20)
#: Names of a producer's headers. Hypothesis finds those that the broker writes in its source, and tries them as well.
NAMES = st.text(max_size=9).filter(lambda name: not name.startswith("x-"))
PROPERTIES = st.fixed_dictionaries(
    {
        "content_type": SHORT,
        "content_encoding": SHORT,
        "headers": st.none() | st.dictionaries(NAMES, st.none() | st.integers(0, 9) | st.text(max_size=5)),
        "delivery_mode": st.sampled_from([None, 1, 2]),
        "priority": st.none() | st.integers(0, 255),
        "correlation_id": SHORT,
        "reply_to": SHORT,
        "expiration": st.none() | st.integers(0, 10**6).map(str),
        "message_id": SHORT,
        "timestamp": st.none() | st.integers(0, 2**33),
        "type": SHORT,
        "user_id": SHORT,
        "app_id": SHORT,
        "cluster_id": SHORT,
    }
)
NOW = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)


def _header(values: dict[str, Any], size: int = 0) -> bytes:
    return pika.frame.Header(1, size, pika.BasicProperties(**values)).marshal()[7:-1]


def _properties(header: bytes) -> dict[str, Any]:
    return vars(pika.BasicProperties().decode(header[12:]))


@given(PROPERTIES)
def test_priority_expiration_and_headers_are_found(values: dict[str, Any]) -> None:
    message = make_message("x", "k", _header(values), b"")
    assert message.layout.priority == values["priority"]
    assert message.ttl == (None if values["expiration"] is None else int(values["expiration"]) / 1000)
    assert message.table == (b"" if values["headers"] is None else encode_table(values["headers"]))


@given(PROPERTIES, st.integers(0, 60))
def test_a_header_that_is_cut_is_a_fault_or_still_a_header(values: dict[str, Any], cut: int) -> None:
    try:
        parse_layout(_header(values)[:-cut] if cut else _header(values))
    except AmqpFault as fault:
        assert fault.code == 502


@given(PROPERTIES)
def test_a_dead_letter_differs_only_in_what_it_must(values: dict[str, Any]) -> None:
    message = make_message("x", "k", _header(values, 4), b"body")
    letter = dead_letter(message, "q", "rejected", "dlx", None, NOW)
    assert letter is not None
    assert (letter.exchange, letter.routing_key, letter.body, letter.ttl) == ("dlx", "k", b"body", None)
    after = _properties(letter.header)
    added = after["headers"]
    (death,) = added.pop("x-death")
    assert death == {
        "count": 1,
        "reason": "rejected",
        "queue": "q",
        "time": NOW,
        "exchange": "x",
        "routing-keys": ["k"],
    }
    assert {name: added.pop(f"x-first-death-{name}") for name in ("reason", "queue", "exchange")} == {
        "reason": "rejected",
        "queue": "q",
        "exchange": "x",
    }
    assert after == {**values, "expiration": None, "headers": values["headers"] or {}}


def test_headers_that_pika_would_spoil_keep_their_bytes() -> None:
    odd = encode_table({"float": 1.25})[4:] + b"\x01tT" + b"\xff" * 8 + b"\x01fd" + b"\x3f\xf8" + bytes(6)
    table = len(odd).to_bytes(4, "big") + odd
    header = b"\x00\x3c\x00\x00" + bytes(8) + b"\x20\x00" + table
    counted = with_delivery_count(make_message("", "q", header, b""), 2)
    assert counted.endswith(odd)
    assert split_table(counted[14:])["x-delivery-count"] == b"I\x00\x00\x00\x02"
    assert put_headers(split_table(table), {}) == table


def test_the_same_death_again_is_counted_and_a_circle_ends() -> None:
    message = make_message("x", "k", _header({"expiration": "5"}), b"")
    first = dead_letter(message, "a", "expired", "", "b", NOW)
    assert first is not None
    assert dead_letter(first, "a", "expired", "", "b", NOW) is None
    second = dead_letter(first, "b", "rejected", "", "a", NOW)
    assert second is not None
    third = dead_letter(second, "a", "expired", "", "b", NOW)
    assert third is not None
    deaths = _properties(third.header)["headers"]["x-death"]
    assert [(d["queue"], d["reason"], d["count"]) for d in deaths] == [("a", "expired", 2), ("b", "rejected", 1)]
    assert deaths[0]["original-expiration"] == "5"


def test_an_expiration_that_is_no_number() -> None:
    with pytest.raises(AmqpFault, match="PRECONDITION_FAILED"):
        make_message("", "q", _header({"expiration": "-1"}), b"")
