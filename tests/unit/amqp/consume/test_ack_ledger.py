"""The ledger against a model of what the broker believes; its frames, read back by pika."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from tests.harness.examples import examples
from turbo.amqp.consume.ack_ledger import AckLedger, Settlement, settle_frames


class BrokerModel:
    """Knows which tags are unacknowledged, and refuses what RabbitMQ refuses."""

    def __init__(self) -> None:
        self.unacked: list[int] = []
        self.acked: list[int] = []
        self.returned: list[int] = []

    def deliver(self, first: int, last: int) -> None:
        self.unacked += range(first, last + 1)

    def apply(self, settlement: Settlement) -> None:
        for tag, _requeue, _penalty in settlement.returned:
            assert tag in self.unacked, "PRECONDITION_FAILED: unknown delivery tag"
            self.unacked.remove(tag)
            self.returned.append(tag)
        if settlement.upto:
            assert settlement.upto in self.unacked, "PRECONDITION_FAILED: unknown delivery tag"
            covered = [tag for tag in self.unacked if tag <= settlement.upto]
            self.unacked = [tag for tag in self.unacked if tag > settlement.upto]
            self.acked += covered
        for tag in settlement.singles:
            assert tag in self.unacked, "PRECONDITION_FAILED: unknown delivery tag"
            self.unacked.remove(tag)
            self.acked.append(tag)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 6)),
        st.tuples(st.just("deliver_settled"), st.integers(1, 3)),
        st.tuples(st.just("ack"), st.integers(0, 40)),
        st.tuples(st.just("give_back"), st.integers(0, 40)),
        st.tuples(st.just("take"), st.integers(0, 1)),
    ),
    max_size=80,
)


@given(steps)
@settings(max_examples=examples(150))
@pytest.mark.row("CN1", "CN5")
def test_every_tag_is_settled_once_and_as_asked(program: list[tuple[str, int]]) -> None:
    ledger, broker = AckLedger(), BrokerModel()
    last = 0
    told_ack: set[int] = set()
    told_back: set[int] = set()
    open_tags: set[int] = set()
    for step, number in program:
        if step == "deliver":
            ledger.received(last + 1, last + number)
            broker.deliver(last + 1, last + number)
            open_tags.update(range(last + 1, last + number + 1))
            last += number
        elif step == "deliver_settled":
            ledger.received_settled(last + 1, last + number)
            last += number
        elif step == "ack":
            assert ledger.ack(number) == (number in open_tags)
            if number in open_tags:
                told_ack.add(number)
                open_tags.discard(number)
        elif step == "give_back":
            assert ledger.give_back(number, requeue=True, penalty=False) == (number in open_tags)
            if number in open_tags:
                told_back.add(number)
                open_tags.discard(number)
        else:
            broker.apply(ledger.take(stragglers=bool(number)))
            # Never over an unsettled tag, and never what was not told.
            assert open_tags <= set(broker.unacked)
            assert set(broker.acked) <= told_ack
            if number:
                assert not ledger.waiting
        assert ledger.outstanding == len(open_tags)
    broker.apply(ledger.take(stragglers=True))
    assert sorted(broker.acked) == sorted(told_ack)
    assert sorted(broker.returned) == sorted(told_back)
    assert set(broker.unacked) == open_tags
    assert not ledger.take(stragglers=True)


def test_contiguous_acks_are_one_multiple() -> None:
    ledger = AckLedger()
    ledger.received(1, 100)
    for tag in range(100, 0, -1):
        assert ledger.ack(tag)
    assert ledger.take(stragglers=False) == Settlement(upto=100)


def test_acks_over_a_gap_wait_and_then_go_singly() -> None:
    ledger = AckLedger()
    ledger.received(1, 5)
    for tag in (1, 2, 4, 5):
        ledger.ack(tag)
    assert ledger.take(stragglers=False) == Settlement(upto=2)
    assert ledger.waiting
    assert ledger.take(stragglers=True) == Settlement(singles=(4, 5))
    ledger.ack(3)
    assert ledger.take(stragglers=False) == Settlement(upto=3)


def test_a_closed_gap_makes_waiting_acks_one_multiple() -> None:
    ledger = AckLedger()
    ledger.received(1, 5)
    for tag in (2, 3, 4, 5):
        ledger.ack(tag)
    assert not ledger.take(stragglers=False)
    ledger.ack(1)
    assert ledger.take(stragglers=False) == Settlement(upto=5)


def test_a_multiple_ends_at_an_acked_tag_not_at_a_rejected_one() -> None:
    ledger = AckLedger()
    ledger.received(1, 3)
    ledger.ack(1)
    ledger.ack(2)
    ledger.give_back(3, requeue=False, penalty=True)
    assert ledger.take(stragglers=False) == Settlement(returned=((3, False, True),), upto=2)


def test_memory_is_bounded_by_the_window_while_one_delivery_stays_open() -> None:
    ledger = AckLedger()
    ledger.received(1, 1)
    for tag in range(2, 50_002):
        ledger.received(tag, tag)
        ledger.ack(tag)
        assert ledger.take(stragglers=True).singles == (tag,)
    kept = ledger._open | ledger._acked
    assert kept == {1}


@pytest.mark.parametrize("first, last", [(3, 3), (2, 1), (0, 5)])
def test_tags_only_grow(first: int, last: int) -> None:
    ledger = AckLedger()
    ledger.received(1, 3)
    with pytest.raises(ValueError, match="delivery tags"):
        ledger.received(first, last)


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
