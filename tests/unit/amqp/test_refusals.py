"""Queues that the broker refuses: one line each, at rising intervals; and what its texts say of their type."""

from __future__ import annotations

import pytest

from turbo.amqp.channel_calls import ChannelGone
from turbo.amqp.queue_types import is_quorum_by, refused_argument
from turbo.amqp.refusals import Refusals

REFUSED = ChannelGone(403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'")


class Clock:
    """Seconds that a test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_refused_queue_is_named_once_then_at_rising_intervals(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(80):
        refusals.refused("q", "could not be declared", REFUSED)
        clock.now += 0.5
    assert refusals.names == ["q"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3, "at 0, 10 and 30 seconds"
    assert lines[0].startswith("queue 'q' could not be declared, so this worker does not consume from it")
    assert "set_permissions" in lines[0]
    refusals.accepted("q")
    assert refusals.names == []
    assert caplog.records[-1].getMessage() == "queue 'q' is consumed now, after 40.0 s"


def test_a_refused_consumer_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Clock())
    refusals.consumer_refused("q", REFUSED)
    refusals.consumer_refused("q", REFUSED)
    assert refusals.count("q") == 2
    assert len(caplog.records) == 1
    refusals.accepted("q")
    assert refusals.count("q") == 0


def test_a_broker_without_transient_queues_is_named(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Clock())
    refusals.declaring_ended_connection("q", ChannelGone(0, "StreamLostError: reset"))
    assert refusals.names == []
    text = "ConnectionClosedByBroker: (541) 'INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.'"
    refusals.declaring_ended_connection("q", ChannelGone(0, text))
    assert refusals.names == ["q"] and refusals.count("q") == 1
    assert "make the queue durable or exclusive" in caplog.records[0].getMessage()


def test_a_difference_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Clock())
    differs = ChannelGone(406, "PRECONDITION_FAILED - inequivalent arg 'durable'")
    for _ in range(3):
        refusals.used_as_it_is("q", "the queue", differs)
        refusals.accepted("q")
    refusals.used_as_it_is("q", "exchange 'e'", REFUSED)
    refusals.accepted("q")
    first, second = (record.getMessage() for record in caplog.records)
    assert "exists with other properties than configured, and is used as it is" in first
    assert "could not be declared, and the queue is consumed as it is" in second


def test_of_a_queue_that_is_refused_only_that_is_named(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Clock())
    refusals.used_as_it_is("q", "the binding to 'e'", REFUSED)
    refusals.consumer_refused("q", REFUSED)
    refusals.accepted("q")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue", "x-max-priority"),
        ("invalid arg 'x-queue-mode' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue", "x-queue-mode"),
        ("invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_stream_queue", None),
        ("invalid arg 'x-dead-letter-exchange' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue", None),
    ],
)
def test_what_a_quorum_queue_can_do_without_is_found(text: str, argument: str | None) -> None:
    assert refused_argument(f"PRECONDITION_FAILED - {text}") == argument


def test_a_type_is_read_from_the_refusal() -> None:
    text = "inequivalent arg 'x-queue-type' for queue 'q' in vhost 'v': received {} but current is {}"
    assert is_quorum_by(text.format("'classic'", "'quorum'"))
    assert is_quorum_by(text.format("the value 'classic' of type 'longstr'", "the value 'quorum' of type 'longstr'"))
    assert not is_quorum_by(text.format("'quorum'", "'classic'"))
