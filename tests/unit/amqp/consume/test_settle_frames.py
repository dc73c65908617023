"""Acknowledgement frames, read back by pika."""

from __future__ import annotations

from pika import frame, spec

from turbo.amqp.consume.ack_ledger import Settlement
from turbo.amqp.consume.settle_frames import settle_frames


def read_back(data: bytes) -> list[tuple[object, ...]]:
    said: list[tuple[object, ...]] = []
    while data:
        used, value = frame.decode_frame(data)
        assert isinstance(value, frame.Method)
        assert value.channel_number == 7
        method = value.method
        if isinstance(method, spec.Basic.Ack):
            said.append(("ack", method.delivery_tag, method.multiple))
        elif isinstance(method, spec.Basic.Reject):
            said.append(("reject", method.delivery_tag, method.requeue))
        else:
            assert isinstance(method, spec.Basic.Nack)
            said.append(("nack", method.delivery_tag, method.multiple, method.requeue))
        data = data[used:]
    return said


def test_returned_tags_come_before_the_multiple_that_would_cover_them() -> None:
    settlement = Settlement(returned=((2, True, True), (3, False, True), (5, True, False)), upto=6, singles=(8, 2**40))
    data, count = settle_frames(7, settlement)
    assert count == 6
    assert read_back(data) == [
        ("reject", 2, True),
        ("reject", 3, False),
        ("nack", 5, False, True),
        ("ack", 6, True),
        ("ack", 8, False),
        ("ack", 2**40, False),
    ]


def test_nothing_is_no_bytes() -> None:
    assert settle_frames(7, Settlement()) == (b"", 0)
