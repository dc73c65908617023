"""Published messages as pika reads them, and answers as pika would write them."""

from __future__ import annotations

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from tests.harness.examples import examples
from turbo.amqp.publish.answers import AnswerReader, Returned
from turbo.amqp.publish.frames import publish_frames, publish_in_parts, publish_method


def header_payload(properties: pika.BasicProperties, size: int) -> bytes:
    return bytes(frame.Header(1, size, properties).marshal()[7:-1])


@given(
    body=st.binary(max_size=3000),
    frame_max=st.sampled_from([0, 256, 257, 4096, 131072]),
    mandatory=st.booleans(),
    # At most 100 bytes each: a method is never split, and AMQP's smallest frame has room for any.
    exchange=st.text(max_size=25),
    key=st.text(max_size=25),
)
@settings(max_examples=examples(100))
def test_pika_reads_what_was_published(body: bytes, frame_max: int, mandatory: bool, exchange: str, key: str) -> None:
    header = header_payload(pika.BasicProperties(headers={"id": "x"}, delivery_mode=2), len(body))
    pieces = publish_frames(5, publish_method(exchange, key, mandatory), header, body, frame_max)
    data = b"".join(pieces)
    read = []
    while data:
        used, value = frame.decode_frame(data)
        assert not frame_max or used <= frame_max
        assert value.channel_number == 5
        read.append(value)
        data = data[used:]
    method = read[0].method
    assert isinstance(method, spec.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == (exchange, key, mandatory)
    assert (read[1].body_size, read[1].properties.headers) == (len(body), {"id": "x"})
    assert b"".join(each.fragment for each in read[2:]) == body


@given(
    size=st.integers(0, 5000),
    frame_max=st.sampled_from([0, 256, 1000, 131072]),
    part_bytes=st.sampled_from([1, 300, 10**6]),
)
@settings(max_examples=examples(100))
def test_parts_are_the_same_bytes_cut_between_frames(size: int, frame_max: int, part_bytes: int) -> None:
    method, body = publish_method("e", "k", False), bytes(range(256)) * 20
    header, body = header_payload(pika.BasicProperties(), size), body[:size]
    parts = list(publish_in_parts(5, method, header, body, frame_max, part_bytes))
    assert b"".join(parts) == b"".join(publish_frames(5, method, header, body, frame_max))
    for part in parts:
        while part:
            used, _value = frame.decode_frame(part)
            assert used, "a part ends inside a frame"
            part = part[used:]


def test_names_over_255_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="255"):
        publish_method("", "ü" * 128, False)
    assert len(publish_method("e" * 255, "k" * 255, True)) > 510


def test_a_header_larger_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="header of 5000"):
        publish_frames(1, publish_method("", "q", False), b"h" * 5000, b"", 4096)


class Answers:
    def __init__(self) -> None:
        self.confirms: list[tuple[int, bool, bool]] = []
        self.returns: list[Returned] = []
        self.reader = AnswerReader(1, lambda *facts: self.confirms.append(facts), self.returns.append)


def test_confirms_and_refusals() -> None:
    answers = Answers()
    assert answers.reader.take(frame.Method(1, spec.Basic.Ack(7, True)).marshal())
    assert answers.reader.take(frame.Method(1, spec.Basic.Ack(2**40, False)).marshal())
    assert answers.reader.take(frame.Method(1, spec.Basic.Nack(9, True, False)).marshal())
    assert answers.confirms == [(7, True, True), (2**40, False, True), (9, True, False)]


@pytest.mark.parametrize("size", [0, 1, 100, 9000])
def test_a_returned_message(size: int) -> None:
    answers = Answers()
    body = b"r" * size
    frames = [
        frame.Method(1, spec.Basic.Return(312, "NO_ROUTE", "an exchange", "kéy")).marshal(),
        # A timestamp that pika cannot decode: it must not even try.
        b"\x02\x00\x01"
        + (20 + 9).to_bytes(4, "big")
        + b"\x00\x3c\x00\x00"
        + size.to_bytes(8, "big")
        + b"\x20\x00"
        + b"\x00\x00\x00\x0b\x01tT\xff\xff\xff\xff\xff\xff\xff\xff"
        + b"\xce",
    ]
    frames += [frame.Body(1, body[i : i + 4000]).marshal() for i in range(0, size, 4000)]
    for each in frames:
        assert answers.reader.take(each)
    assert answers.returns == [Returned(312, "NO_ROUTE", "an exchange", "kéy", body)]
    assert answers.reader.take(frame.Method(1, spec.Basic.Ack(1, False)).marshal())


def test_other_frames_are_left_to_pika() -> None:
    answers = Answers()
    for each in (
        frame.Method(2, spec.Basic.Ack(1, False)),
        frame.Method(1, spec.Channel.Close(404, "no exchange", 60, 40)),
        frame.Heartbeat(),
        frame.Body(1, b"stray"),
    ):
        assert not answers.reader.take(each.marshal())
    assert not answers.confirms
