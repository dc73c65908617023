"""Frames and arguments: whatever the pieces that bytes come in, and whatever the bytes."""

from __future__ import annotations

import struct

import pika.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.methods import METHODS
from turbo.embedded_broker.wire import FrameSplitter, decode_arguments, encode_content, method_index


@given(st.lists(st.binary(max_size=30), max_size=8), st.data())
def test_frames_come_out_whole_however_they_come_in(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pika.frame.Body(3, payload).marshal() for payload in payloads)
    splitter, found, at = FrameSplitter(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        found += splitter.feed(stream[at : at + step])
        at += step
    assert found == [(3, 3, payload) for payload in payloads]


@pytest.mark.parametrize("stream", [b"\x01\x00\x01\x00\x00\x00\x00X", b"\x01\x00\x01\x7f\x00\x00\x00"])
def test_what_is_no_frame_is_a_fault(stream: bytes) -> None:
    with pytest.raises(AmqpFault, match="FRAME_ERROR"):
        FrameSplitter().feed(stream)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (pika.spec.Queue.Declare(0, "q", False, True, False, True, False, {"x": 1}), ["q", False, True, False, True]),
        (pika.spec.Exchange.Declare(0, "x", "topic", False, True, False, True, True, {}), ["x", "topic", False, True]),
        (pika.spec.Basic.Consume(0, "q", "tag", False, True, False, True, {}), ["q", "tag", False, True, False, True]),
        (pika.spec.Basic.Publish(0, "x", "k", True, False), ["x", "k", True, False]),
        (pika.spec.Queue.Unbind(0, "q", "x", "k", {}), ["q", "x", "k"]),
    ],
)
def test_arguments_are_read_as_pika_writes_them(method: pika.amqp_object.Method, expected: list[object]) -> None:
    payload = pika.frame.Method(1, method).marshal()[7:-1]
    values = decode_arguments(METHODS[method_index(payload)][0], payload)
    assert values[1 : 1 + len(expected)] == expected


@pytest.mark.parametrize(
    "method",
    [
        pika.spec.Basic.Nack(2**40, True, False),
        pika.spec.Basic.Qos(0, 7, True),
        pika.spec.Basic.Ack(9, True),
        pika.spec.Basic.Get(0, "q", True),
    ],
)
def test_the_layouts_consume_every_byte(method: pika.amqp_object.Method) -> None:
    payload = pika.frame.Method(1, method).marshal()[7:-1]
    with pytest.raises(AmqpFault, match="SYNTAX_ERROR"):
        decode_arguments(METHODS[method_index(payload)][0], payload[:-1])
    decode_arguments(METHODS[method_index(payload)][0], payload)


@given(st.sampled_from(sorted(METHODS)), st.binary(max_size=60))
def test_arbitrary_arguments_are_read_or_refused(index: int, rest: bytes) -> None:
    try:
        decode_arguments(METHODS[index][0], struct.pack(">I", index) + rest)
    except AmqpFault as fault:
        assert fault.code == 502


@given(st.binary(max_size=40), st.integers(20, 60))
def test_bodies_are_cut_to_the_agreed_size(body: bytes, frame_max: int) -> None:
    encoded = encode_content(1, b"mmmm", b"h" * 14, body, frame_max)
    method, header, *pieces = FrameSplitter().feed(encoded)
    assert (method, header) == ((1, 1, b"mmmm"), (2, 1, b"h" * 14))
    assert b"".join(payload for _, _, payload in pieces) == body
    assert all(len(payload) + 8 <= frame_max for _, _, payload in pieces)
