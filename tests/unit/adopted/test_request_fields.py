"""What the task of an adopted app sees of its message, where that takes more than copying the headers."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from turbo.adopted.request_fields import RequestFields
from turbo.policy import poison
from turbo.protocol.properties import Properties

V2 = [[1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
V1 = {"task": "t", "id": "i", "args": [1], "kwargs": {"k": 2}, "retries": 0, "timelimit": [None, None]}
DIED = {poison.DELIVERIES: 1, poison.REASON: "signal 9"}


def fields_of(headers: dict[str, Any], body: Any, *, redelivered: bool = False) -> dict[str, Any]:
    deliver = b"\x01c" + struct.pack(">QB", 7, redelivered) + b"\x00" + b"\x01q"
    properties = Properties(content_type="application/json", headers=headers)
    return RequestFields("w@here").of(properties, deliver, body)


@pytest.mark.parametrize("body", [V2, V1], ids=["protocol 2", "protocol 1"])
def test_a_copy_after_a_death_looks_redelivered_and_like_its_original(body: Any) -> None:
    headers = {"task": "t", "id": "i"} if body is V2 else {}
    again = fields_of({**headers, **DIED}, body)
    assert again["delivery_info"]["redelivered"] is True
    assert not DIED.keys() & again.keys()
    assert fields_of(headers, body)["delivery_info"]["redelivered"] is False
    assert fields_of(headers, body, redelivered=True)["delivery_info"]["redelivered"] is True


def test_the_header_of_the_message_stays_as_it_is() -> None:
    headers = {"task": "t", "id": "i", **DIED}
    fields_of(headers, V2)
    assert headers.keys() >= DIED.keys()


def test_protocol_1_is_converted_as_a_worker_of_celerys_does() -> None:
    found = fields_of({"extra": 5}, V1)
    assert (found["args"], found["kwargs"], found["extra"]) == ([1], {"k": 2}, 5)
    # its worker goes by the arguments in the body, and so takes every such message for one of both protocols
    assert "origin" in found and "taskset" not in found
