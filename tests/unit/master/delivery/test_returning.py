"""A message that is published again near its delivery limit, when the broker takes the original back meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.master.delivery.test_ledger import LedgerMachine
from tests.unit.master.fakes import BODY, QUEUE, Message, header_of
from turbo.amqp.publish.publisher import Published
from turbo.master.delivery.returning import COUNT
from turbo.protocol.properties import decode_header, encode_header


class Wired(LedgerMachine):
    """The master's parts over a quorum queue that counts deliveries."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()
        self.broker.refusals.quorum[QUEUE] = True
        self.publisher.connected, self.publisher.blocked = True, False  # type: ignore[attr-defined]

    def take_in(self, count: int) -> None:
        """Deliver a message that has come so often before."""
        properties, _size = decode_header(header_of("late-0", "late"))
        properties.headers = {**(properties.headers or {}), COUNT: count}
        self.broker.queue.append(Message("late-0", "late", encode_header(properties, len(BODY))))
        self.deliver(1)

    def confirm_copy(self) -> Message:
        """The broker has the copy in its queue, and says so; the copy."""
        _key, header, _body, done = self.publisher.waiting.pop()
        copy = Message("late-0", "late", header)
        self.broker.queue.append(copy)
        assert done is not None
        done(Published.CONFIRMED)
        return copy


def cut(wired: Wired) -> None:
    wired.lose_session()
    wired.open()


def cancel(wired: Wired) -> None:
    wired.cancel_consumer()


@pytest.fixture
def wired() -> Wired:
    return Wired()


def test_a_message_near_its_limit_waits_until_it_can_be_published(wired: Wired) -> None:
    wired.publisher.connected = False  # type: ignore[attr-defined]
    wired.take_in(19)
    assert not wired.publisher.waiting
    assert not any(child.link.unclaimed for child in wired.children)  # type: ignore[attr-defined]
    wired.publisher.connected = True  # type: ignore[attr-defined]
    wired.publisher.on_ready()  # type: ignore[attr-defined]
    wired.confirm_copy()
    assert [message.id for message in wired.broker.acked] == ["late-0"]


def test_one_that_waits_for_that_leaves_no_copy_when_its_session_is_lost(wired: Wired) -> None:
    wired.publisher.connected = False  # type: ignore[attr-defined]
    wired.take_in(19)
    cut(wired)
    wired.publisher.connected = True  # type: ignore[attr-defined]
    wired.publisher.on_ready()  # type: ignore[attr-defined]
    assert not wired.publisher.waiting
    assert wired.ledger.running_void == 0


def test_the_original_is_acknowledged_when_the_copy_is_confirmed(wired: Wired) -> None:
    wired.take_in(19)
    assert not wired.broker.acked
    wired.confirm_copy()
    assert [message.id for message in wired.broker.acked] == ["late-0"]
    assert not list(wired.ledger)


@pytest.mark.parametrize("lose", [cut, cancel])
def test_a_copy_that_comes_back_is_run_though_its_original_was_lost(
    wired: Wired, lose: Callable[[Wired], None]
) -> None:
    wired.take_in(19)
    lose(wired)
    copy = wired.confirm_copy()
    assert not wired.broker.acked, "acknowledged by a tag that is void"
    assert wired.ledger.running_void == 0
    wired.broker.queue = type(wired.broker.queue)([copy])  # another worker takes the original
    wired.deliver(1)
    wired.turn_the_loop()
    lose(wired)
    wired.broker.queue = type(wired.broker.queue)([copy])
    assert copy.redelivered
    wired.deliver(1)
    wired.charge_suspects()
    assert not wired.redelivery_guard.watching
    assert any(child.link.unclaimed for child in wired.children), "no child has it"  # type: ignore[attr-defined]
