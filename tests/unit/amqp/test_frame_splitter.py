"""The splitter against pika's own decoder, on random streams cut at random places."""

from __future__ import annotations

import random
import struct
from unittest import mock

import pika
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pika import frame, spec

from tests.harness.examples import examples
from turbo.amqp import frame_splitter
from turbo.amqp.frame_splitter import FrameError, FrameSplitter, RawDelivery

MINE = 2
FRAME_MAX = 4096


def content(channel: int, method: object, properties: pika.BasicProperties, body: bytes) -> list[bytes]:
    frames = [
        frame.Method(channel, method).marshal(),
        frame.Header(channel, len(body), properties).marshal(),
    ]
    room = FRAME_MAX - 8
    frames += [frame.Body(channel, body[i : i + room]).marshal() for i in range(0, len(body), room)]
    return frames


def deliver(tag: int, consumer: str = "turbo-1", channel: int = MINE, body: bytes = b"body") -> list[bytes]:
    method = spec.Basic.Deliver(consumer, tag, tag % 3 == 0, "exchange", f"key{tag}")
    return content(channel, method, pika.BasicProperties(headers={"id": str(tag)}), body)


class Reading:
    """Feeds chunks as a connection would, and writes down everything in its order."""

    def __init__(self, channel: int = MINE) -> None:
        self.events: list[tuple[object, ...]] = []
        self.splitter = FrameSplitter(self._batch, self._frame)
        self.splitter.watch(channel)
        self.rest = b""
        self.used = 0
        self.largest_batch = 0

    def _batch(self, consumer: bytes, batch: list[RawDelivery]) -> None:
        assert batch
        self.largest_batch = max(self.largest_batch, len(batch))
        for tag, args, header, body in batch:
            assert args[1 : 1 + args[0]] == consumer
            self.events.append(("delivery", consumer.decode("latin-1"), tag, args, header, body))

    def _frame(self, data: bytes) -> None:
        self.events.append(("frame", data))

    def feed(self, data: bytes) -> None:
        data = self.rest + data
        used = self.splitter.feed(data)
        self.used += used
        self.rest = data[used:]


def expected_by_pika(stream: bytes) -> list[tuple[object, ...]]:
    """Decode the stream with pika and say what the splitter should have said."""
    events: list[tuple[object, ...]] = []
    pending: list[object] | None = None
    at = 0
    while at < len(stream):
        used, value = frame.decode_frame(stream[at:])
        raw = stream[at : at + used]
        at += used
        mine = getattr(value, "channel_number", 0) == MINE
        if mine and isinstance(value, frame.Method) and isinstance(value.method, spec.Basic.Deliver):
            pending = [value.method, raw[11:-1], None, b""]
        elif mine and pending is not None and isinstance(value, frame.Header):
            pending[2] = raw[7:-1]
            size = value.body_size
            if size == 0:
                events.append(_event(pending))
                pending = None
        elif mine and pending is not None and isinstance(value, frame.Body):
            pending[3] += value.fragment
            if len(pending[3]) == struct.unpack_from(">Q", pending[2], 4)[0]:
                events.append(_event(pending))
                pending = None
        else:
            events.append(("frame", raw))
    return events


def _event(pending: list[object]) -> tuple[object, ...]:
    method, args, header, body = pending
    return ("delivery", method.consumer_tag, method.delivery_tag, args, header, body)


def interleave(rng: random.Random, sequences: list[list[bytes]]) -> bytes:
    """Mix sequences of frames, each staying in its order."""
    sequences = [list(each) for each in sequences]
    out = []
    while any(sequences):
        chosen = rng.choice([each for each in sequences if each])
        out.append(chosen.pop(0))
    return b"".join(out)


def random_stream(rng: random.Random) -> bytes:
    mine: list[bytes] = []
    for tag in range(1, rng.randint(1, 40)):
        kind = rng.random()
        if kind < 0.75:
            size = rng.choice([0, 1, 95, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, rng.randint(0, 20_000)])
            mine += deliver(tag, rng.choice(["turbo-1", "turbo-2", "x" * 40]), body=rng.randbytes(size))
        elif kind < 0.83:
            mine += content(
                MINE,
                spec.Basic.GetOk(tag, False, "", "k", 0),
                pika.BasicProperties(),
                rng.randbytes(rng.randint(0, 9000)),
            )
        else:
            mine.append(
                frame.Method(
                    MINE, rng.choice([spec.Basic.ConsumeOk("turbo-1"), spec.Basic.Cancel("turbo-2")])
                ).marshal()
            )
    other = [f for tag in range(1, rng.randint(1, 8)) for f in deliver(tag, channel=3, body=rng.randbytes(700))]
    control = [frame.Heartbeat().marshal() for _ in range(rng.randint(0, 4))]
    return interleave(rng, [mine, other, control])


@given(seed=st.integers(0, 2**32), pieces=st.sampled_from([0, 200, FRAME_MAX]))
@settings(max_examples=examples(100))
def test_same_as_pika_whatever_the_cuts(seed: int, pieces: int) -> None:
    rng = random.Random(seed)
    stream = random_stream(rng)
    reading = Reading()
    at = 0
    with mock.patch.object(frame_splitter, "_PIECES", pieces):
        while at < len(stream):
            size = rng.choice([1, 7, 8, 100, rng.randint(1, 9000), 70_000])
            reading.feed(stream[at : at + size])
            at += size
    assert reading.events == expected_by_pika(stream)
    assert reading.used == len(stream)
    assert not reading.rest


LARGE = random.Random(1).randbytes(60_000)


def large_frames(tag: int, channel: int = MINE) -> list[bytes]:
    """A delivery whose body is one large frame, and a piece of another."""
    method = spec.Basic.Deliver("turbo-1", tag, False, "exchange", "key")
    header = frame.Header(channel, 70_000, pika.BasicProperties()).marshal()
    bodies = [frame.Body(channel, LARGE).marshal(), frame.Body(channel, LARGE[:10_000]).marshal()]
    return [frame.Method(channel, method).marshal(), header, *bodies]


def test_a_large_frame_is_taken_as_it_comes() -> None:
    reading = Reading()
    stream = b"".join([*large_frames(1), *large_frames(2), frame.Heartbeat().marshal()])
    for at in range(0, len(stream), 10_000):
        reading.feed(stream[at : at + 10_000])
        assert len(reading.rest) < 10_100, "only small frames wait for their end"
    assert reading.events == expected_by_pika(stream)


@settings(max_examples=examples(50), deadline=None)
@given(seed=st.integers(0, 2**32), most=st.sampled_from([300, 5_000, 70_000]))
def test_what_is_read_straight_to_its_place_is_as_what_is_fed(seed: int, most: int) -> None:
    rng = random.Random(seed)
    stream = b"".join([*large_frames(1), *deliver(2), *large_frames(3), frame.Heartbeat().marshal()])
    reading, at = Reading(), 0
    while at < len(stream):
        count = rng.randint(1, most)
        place = reading.splitter.room()
        if place is None:
            reading.feed(stream[at : at + count])
        else:
            assert not reading.rest, "nothing comes before it"
            with place:
                count = min(count, len(place))
                place[:count] = stream[at : at + count]
            reading.splitter.filled(count)
            reading.used += count
        at += count
    assert reading.events == expected_by_pika(stream)
    assert reading.used == len(stream)


def test_there_is_no_place_but_in_a_large_frame_that_is_wanted() -> None:
    reading = Reading()
    assert reading.splitter.room() is None
    head, header, first, second = large_frames(1)
    reading.feed(head + header + first[:20_000])
    place = reading.splitter.room()
    assert place is not None
    assert len(place) == 7 + 60_000 - 20_000
    place.release()
    reading.splitter.watch(0)
    assert reading.splitter.room() is None, "its content was dropped"
    reading.feed(first[20_000:] + second)
    assert reading.splitter.room() is None


def test_every_cut_near_the_end_of_a_large_frame() -> None:
    head, header, first, second = large_frames(1)
    stream = b"".join([head, header, first, second])
    expected = expected_by_pika(stream)
    end = len(head + header + first)
    for cut in range(end - 3, end + 9):
        reading = Reading()
        reading.feed(stream[: end - 9_000])
        reading.feed(stream[end - 9_000 : cut])
        reading.feed(stream[cut:])
        assert reading.events == expected


def test_a_large_frame_with_a_wrong_end_is_an_error() -> None:
    stream = b"".join(large_frames(1)[:3])[:-1] + b"\x00"
    reading = Reading()
    reading.feed(stream[:50_000])
    with pytest.raises(FrameError, match="ends with 0x00"):
        reading.feed(stream[50_000:])


def test_a_large_frame_longer_than_its_body_is_an_error() -> None:
    head, header, first, _ = large_frames(1)
    reading = Reading()
    reading.feed(head + header + first)
    with pytest.raises(FrameError, match="10000 bytes of a body were expected"):
        reading.feed(first[:30_000])


@pytest.mark.parametrize("channel", [0, 5])
def test_a_content_dropped_in_the_middle_of_a_frame_is_skipped_to_its_end(channel: int) -> None:
    reading = Reading()
    stream = b"".join(large_frames(1)[:3])
    reading.feed(stream[:30_000])
    reading.splitter.watch(channel)
    assert reading.splitter.busy
    reading.feed(stream[30_000:50_000])
    reading.feed(stream[50_000:] + frame.Heartbeat().marshal() + b"".join(deliver(7, channel=5)))

    assert reading.splitter.busy == (channel == 5)
    if channel:
        assert [event[0] for event in reading.events] == ["frame", "delivery"]
    else:
        assert [event[0] for event in reading.events] == ["frame"] * 4


def test_a_new_stream_begins_at_a_boundary() -> None:
    reading = Reading()
    reading.feed(b"".join(large_frames(1)[:3])[:30_000])
    reading.splitter.restart()
    assert not reading.splitter.busy
    reading.splitter.watch(MINE)
    reading.feed(b"".join(deliver(1)))
    assert [event[:3] for event in reading.events] == [("delivery", "turbo-1", 1)]


def test_every_single_cut_of_a_short_stream() -> None:
    stream = b"".join([*deliver(1), frame.Heartbeat().marshal(), *deliver(2, body=b"")])
    expected = expected_by_pika(stream)
    for cut in range(len(stream) + 1):
        reading = Reading()
        reading.feed(stream[:cut])
        reading.feed(stream[cut:])
        assert reading.events == expected


def test_deliveries_of_one_chunk_come_in_one_batch() -> None:
    reading = Reading()
    reading.feed(b"".join(f for tag in range(1, 101) for f in deliver(tag)))
    assert reading.largest_batch == 100
    assert reading.splitter.fast_frames == 300


def test_without_a_watched_channel_every_frame_is_handed_on() -> None:
    reading = Reading(channel=0)
    frames = [*deliver(1, channel=MINE), frame.Heartbeat().marshal()]
    reading.feed(b"".join(frames))
    assert reading.events == [("frame", each) for each in frames]


def test_watching_another_channel_drops_the_unfinished_content() -> None:
    reading = Reading()
    reading.feed(b"".join(deliver(1)[:2]))
    reading.splitter.watch(5)
    reading.feed(b"".join(deliver(1, channel=5)))
    assert [event[:3] for event in reading.events] == [("delivery", "turbo-1", 1)]


def test_the_channel_may_change_in_the_middle_of_a_chunk() -> None:
    reading = Reading()
    events = reading.events

    def on_frame(data: bytes) -> None:
        events.append(("frame", data))
        reading.splitter.watch(5)

    reading.splitter._on_frame = on_frame
    close = frame.Method(MINE, spec.Channel.Close(406, "timeout", 0, 0)).marshal()
    reading.feed(b"".join(deliver(1) + deliver(2)[:2] + [close] + deliver(7, channel=5)))
    assert [event[2] if event[0] == "delivery" else event[0] for event in events] == [1, "frame", 7]


def mangled(frames: list[bytes], index: int, data: bytes) -> bytes:
    return b"".join([*frames[:index], data, *frames[index + 1 :]])


FRAMES = deliver(1, body=b"x" * 20)
HEAD = struct.Struct(">BHI").pack


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(FRAMES[0][:-1] + b"\x00", id="wrong end byte"),
        pytest.param(FRAMES[0] + FRAMES[2], id="body before header"),
        pytest.param(FRAMES[0] + FRAMES[1] + FRAMES[1], id="two headers"),
        pytest.param(mangled(FRAMES, 2, HEAD(3, MINE, 21) + b"x" * 21 + b"\xce"), id="more body than announced"),
        pytest.param(FRAMES[0] + HEAD(2, MINE, 3) + b"abc\xce", id="header too short"),
        pytest.param(HEAD(1, MINE, 6) + b"\x00\x3c\x00\x3c\x01a\xce", id="deliver too short"),
        pytest.param(HEAD(1, MINE, 20) + b"\x00\x3c\x00\x3c\xff" + b"a" * 15 + b"\xce", id="consumer tag too long"),
        pytest.param(FRAMES[0] + FRAMES[0], id="deliver inside a content"),
    ],
)
def test_a_broken_stream_is_an_error_and_not_a_delivery(stream: bytes) -> None:
    reading = Reading()
    with pytest.raises(FrameError):
        reading.feed(stream)
    assert not [event for event in reading.events if event[0] == "delivery"]


@example(data=b"\xff" + bytes(7))
@given(st.binary(max_size=400))
@settings(max_examples=examples(100))
def test_noise_raises_nothing_but_frame_error(data: bytes) -> None:
    reading = Reading()
    try:
        reading.feed(data)
    except FrameError:
        return
    assert reading.used + len(reading.rest) == len(data)


def outcome_of(reading: Reading, data: bytes) -> tuple[object, ...]:
    """Return what became of the bytes: events, the rest, and why they are invalid."""
    before = len(reading.events)
    try:
        reading.feed(data)
    except FrameError as error:
        return (str(error),)
    return (*reading.events[before:], reading.rest)


@given(
    at=st.integers(0, 10_000), change=st.integers(1, 255), cut=st.integers(0, 10_000), body=st.sampled_from([0, 1, 9])
)
@settings(max_examples=examples(300))
def test_a_message_like_the_one_before_is_read_as_the_first(at: int, change: int, cut: int, body: int) -> None:
    changed = bytearray(b"".join(deliver(2, body=b"b" * body)))
    changed[at % len(changed)] ^= change
    stream = bytes(changed) + b"".join(deliver(3, body=b"c" * body))
    stream = stream[: len(stream) - cut % len(stream)]
    first, later = Reading(), Reading()
    later.feed(b"".join(deliver(1, body=b"a" * body)))

    assert outcome_of(later, stream) == outcome_of(first, stream)


def test_another_channel_has_no_use_for_the_frames_before() -> None:
    reading = Reading()
    reading.feed(b"".join(deliver(1)))
    reading.splitter.watch(MINE + 1)
    events = len(reading.events)
    reading.feed(b"".join(deliver(2)))
    assert {event[0] for event in reading.events[events:]} == {"frame"}
