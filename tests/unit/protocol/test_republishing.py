"""What is changed in a message that is sent once more, and how its origin survives."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from turbo.protocol.deliver import build_deliver, parse_deliver
from turbo.protocol.own_headers import ROUTE, route_of
from turbo.protocol.republishing import DEATH_HEADERS, without_delays
from turbo.protocol.table import TableError

DELIVER = b"\x03tag" + struct.pack(">QB", 7, 1) + b"\x01e" + b"\x03key"
DELAYED, OWN = {"queue": "celery_delayed_3", "reason": "expired"}, {"queue": "retries", "reason": "rejected"}


def test_a_delivery_gets_the_origin_that_it_had() -> None:
    found = parse_deliver(build_deliver(parse_deliver(DELIVER), "tasks", "a.b"))
    assert (found.exchange, found.routing_key) == ("tasks", "a.b")
    assert (found.consumer_tag, found.delivery_tag, found.redelivered) == ("tag", 7, True)


def test_a_name_that_amqp_cannot_carry_is_refused() -> None:
    with pytest.raises(TableError, match="256 bytes"):
        build_deliver(parse_deliver(DELIVER), "e" * 256, "key")


@pytest.mark.parametrize(
    ("headers", "route"),
    [
        ({ROUTE: ["tasks", "a.b"]}, ("tasks", "a.b")),
        ({ROUTE: ["tasks"]}, None),
        ({ROUTE: ["tasks", 1]}, None),
        ({ROUTE: "tasks"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_route_is_read_where_it_is_one(headers: dict[str, Any] | None, route: tuple[str, str] | None) -> None:
    assert route_of(headers) == route


def test_marks_of_the_delay_queues_go_and_all_others_stay() -> None:
    deaths = dict.fromkeys(DEATH_HEADERS, "x")
    assert without_delays({"own": 1, "x-death": [DELAYED, OWN]}) == {"own": 1, "x-death": [OWN]}
    assert without_delays({**deaths, "own": 1, "x-death": [DELAYED]}) == {"own": 1}
    assert without_delays({"x-death": [OWN]}) == {"x-death": [OWN]}
    assert without_delays({"x-death": "nonsense"}) == {"x-death": "nonsense"}
    assert without_delays(None) == {}
