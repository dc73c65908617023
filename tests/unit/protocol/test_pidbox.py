"""Requests of remote control: read whole or refused, and who is meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.protocol.clock import LogicalClock
from turbo.protocol.event import build_event, event_message, routing_key
from turbo.protocol.pidbox import (
    PidboxError,
    ReplyTo,
    Request,
    concerns,
    parse_reply,
    parse_request,
    reply_message,
    request_message,
)
from turbo.protocol.properties import decode_header

#: As kombu's mailbox writes it.
WHOLE: dict[str, Any] = {
    "method": "revoke",
    "arguments": {"task_id": ["a", "b"], "terminate": True, "signal": "SIGTERM"},
    "destination": ["one@here", "two@here"],
    "pattern": None,
    "matcher": None,
    "ticket": "2f6c4ba2-6a0a-4b3c-9d5f-0a7c2c0c6e0e",
    "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "d1b0"},
}


def test_a_whole_request() -> None:
    assert parse_request(WHOLE) == Request(
        "revoke",
        WHOLE["arguments"],
        ("one@here", "two@here"),
        "",
        "",
        ReplyTo("reply.celery.pidbox", "d1b0"),
        WHOLE["ticket"],
    )


def test_the_least_request() -> None:
    assert parse_request({"method": "ping", "arguments": None}) == Request("ping")


@pytest.mark.parametrize(
    "change",
    [
        {"method": None}, {"method": ""}, {"method": 3}, {"method": "x" * 256}, {"method": "\ud800" * 100},
        {"arguments": [1]}, {"arguments": {1: 2}}, {"arguments": "x"}, {"destination": 3}, {"destination": [3]},
        {"destination": {"a": 1}}, {"pattern": 3}, {"matcher": []}, {"ticket": 5}, {"reply_to": "x"},
        {"reply_to": {"routing_key": "k"}}, {"reply_to": {"exchange": 3}}, {"reply_to": {"exchange": "x" * 256}},
        {"reply_to": {"exchange": "x", "routing_key": 3}},
    ],
    ids=repr,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PidboxError):
        parse_request({**WHOLE, **change})


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(st.one_of(_ANY, st.fixed_dictionaries({}, optional=dict.fromkeys(WHOLE, _ANY))))
def test_whatever_comes_is_read_or_refused(body: Any) -> None:
    try:
        request = parse_request(body)
        concerns(request, "one@here")
    except PidboxError:
        return
    assert isinstance(request.method, str)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, True),
        ({"destination": ["one@here"]}, True),
        ({"destination": "one@here"}, True),
        ({"destination": ["two@here"]}, False),
        ({"destination": ["one"]}, False),
        ({"pattern": "one@*", "matcher": "glob"}, True),
        ({"pattern": "o?e@h[a-z]re", "matcher": "glob"}, True),
        ({"pattern": "two@*", "matcher": "glob"}, False),
        ({"pattern": "one", "matcher": "glob"}, False),
        ({"pattern": "on.@", "matcher": "pcre"}, True),
        ({"pattern": "ne@here", "matcher": "pcre"}, False),
        # as in kombu, a pattern without a matcher is none
        ({"pattern": "two@*"}, True),
        ({"destination": ["two@here"], "pattern": "one@*", "matcher": "glob"}, False),
    ],
    ids=repr,
)
def test_who_is_meant(given: dict[str, Any], meant: bool) -> None:
    assert concerns(parse_request({"method": "ping", **given}), "one@here") is meant


@pytest.mark.parametrize("given", [{"pattern": "(", "matcher": "pcre"}, {"pattern": "x", "matcher": "nosuch"}])
def test_a_pattern_that_cannot_be_understood(given: dict[str, Any]) -> None:
    with pytest.raises(PidboxError):
        concerns(parse_request({"method": "ping", **given}), "one@here")


def test_a_reply_is_as_kombu_reads_it() -> None:
    header, body = reply_message("one@here", {"ok": "pong"}, "ticket-1", 17, "json")
    properties, size = decode_header(header)
    assert json.loads(body) == {"one@here": {"ok": "pong"}}
    assert size == len(body)
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert properties.headers == {"ticket": "ticket-1", "clock": 17}
    assert properties.delivery_mode == 1


@pytest.mark.row("EV12")
def test_an_event_is_as_monitors_read_it() -> None:
    event = build_event(
        "worker-heartbeat", node="one@here", pid=7, clock=3, now=12.5, utcoffset=-1.0, fields={"freq": 2.0}
    )
    assert event == {
        "type": "worker-heartbeat", "hostname": "one@here", "pid": 7, "clock": 3, "timestamp": 12.5, "utcoffset": -1.0,
        "freq": 2.0,
    }  # fmt: skip
    header, body = event_message(event, "json")
    properties, _size = decode_header(header)
    assert json.loads(body) == event
    assert properties.headers == {"hostname": "one@here"}
    assert properties.delivery_mode == 1
    assert routing_key("worker-heartbeat") == "worker.heartbeat"


@pytest.mark.row("EV17")
def test_the_clock_is_never_behind_a_received_value() -> None:
    clock = LogicalClock()
    assert clock.forward() == 1
    assert clock.adjust(41) == 42
    assert clock.adjust(3) == 43
    for nonsense in (None, "99", -1, True, 2**63, 1e300, [1]):
        before = clock.value
        assert clock.adjust(nonsense) == before + 1


def test_a_request_is_read_as_it_was_written() -> None:
    for request in (
        Request("hello", {"from_node": "a@b", "revoked": ["x"]}, reply_to=ReplyTo("reply", "key"), ticket="t"),
        Request("ping", destination=("a@b",)),
    ):
        header, body = request_message(request, 7, "json")
        assert parse_request(json.loads(body)) == request
        properties, size = decode_header(header)
        assert (size, properties.headers) == (len(body), {"clock": 7, "expires": 0})


def test_a_reply_is_read_as_it_was_written() -> None:
    _header, body = reply_message("one@here", {"ok": "pong"}, "t", 3, "json")
    assert parse_reply(json.loads(body)) == ("one@here", {"ok": "pong"})


@pytest.mark.parametrize("body", [None, [], "x", {}, {"a": 1, "b": 2}, {3: "x"}, {"n" * 256: "x"}])
def test_what_is_no_reply(body: Any) -> None:
    with pytest.raises(PidboxError):
        parse_reply(body)


@pytest.mark.parametrize(
    ("header", "until"),
    [(1000.5, 1000.5), (1001, 1000.0), (0, None), (None, None), ("soon", None), (float("nan"), None), (-1, None)],
)
def test_the_time_until_which_the_client_waits(header: object, until: float | None) -> None:
    assert parse_request({"method": "ping"}, header).expires == until
