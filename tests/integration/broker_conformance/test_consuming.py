"""Deliveries: windows, acknowledgements, redelivery, order, and who gets what."""

from __future__ import annotations

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.harness.embedded import BrokerUnderTest
from tests.harness.fault_proxy import FaultProxy
from tests.harness.processes import wait_until
from tests.integration.broker_conformance.clients import (
    bodies,
    collect,
    consume,
    get_all,
    refused,
    settle_down,
)
from tests.integration.broker_conformance.conftest import Connect


def _fill(channel: BlockingChannel, queue: str, count: int) -> list[bytes]:
    made = [str(number).encode() for number in range(count)]
    for body in made:
        channel.basic_publish("", queue, body)
    return made


def test_prefetch_is_a_window_of_each_consumer(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("q")
    sent = _fill(channel, "q", 10)
    channel.basic_qos(prefetch_count=3)
    got = consume(channel, "q")
    collect(channel, got, 3)
    settle_down(channel)
    assert bodies(got) == sent[:3]
    any_broker.wait("q", ready=7, unacked=3)
    channel.basic_ack(got[1][0].delivery_tag)
    collect(channel, got, 4)
    channel.basic_ack(got[3][0].delivery_tag, multiple=True)
    collect(channel, got, 7)
    settle_down(channel)
    assert bodies(got) == sent[:7]
    channel.basic_ack(0, multiple=True)
    collect(channel, got, 10)
    assert [method.delivery_tag for method, _, _ in got] == list(range(1, 11))
    channel.basic_ack(10, multiple=True)
    any_broker.wait("q", ready=0, unacked=0)


def test_prefetch_of_the_whole_channel(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("a")
    channel.queue_declare("b")
    _fill(channel, "a", 5)
    _fill(channel, "b", 5)
    channel.basic_qos(prefetch_count=4, global_qos=True)
    first = consume(channel, "a")
    second = consume(channel, "b")
    collect(channel, first, 4)
    if any_broker.release >= (4, 3):  # it counts each consumer's alone, as without the flag
        assert len(collect(channel, second, 4)) == 4
        return
    channel.connection.process_data_events(time_limit=0.1)
    assert len(first) + len(second) == 4
    channel.basic_ack(first[-1][0].delivery_tag, multiple=True)

    def are_eight() -> bool:
        channel.connection.process_data_events(time_limit=0.05)
        return len(first) + len(second) >= 8

    wait_until("the broker has filled the room, from whichever queue", are_eight, 60)
    channel.connection.process_data_events(time_limit=0.1)
    assert len(first) + len(second) == 8


def test_without_acknowledgements_nothing_is_held(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("q")
    channel.basic_qos(prefetch_count=1)
    sent = _fill(channel, "q", 50)
    got = consume(channel, "q", auto_ack=True)
    assert bodies(collect(channel, got, 50)) == sent
    any_broker.wait("q", ready=0, unacked=0)


def test_requeued_messages_keep_their_place_and_are_marked(channel: BlockingChannel) -> None:
    channel.queue_declare("q")
    _fill(channel, "q", 6)
    tags = [channel.basic_get("q")[0].delivery_tag for _ in range(4)]
    channel.basic_reject(tags[2], requeue=True)
    channel.basic_nack(tags[1], multiple=True, requeue=True)
    channel.basic_reject(tags[3], requeue=False)
    seen = []
    for _ in range(5):
        method, _, body = channel.basic_get("q", auto_ack=True)
        seen.append((body, method.redelivered))
    assert seen == [(b"0", True), (b"1", True), (b"2", True), (b"4", False), (b"5", False)]


def test_what_a_lost_channel_or_connection_held_comes_back(connect: Connect, any_broker: BrokerUnderTest) -> None:
    watcher = connect().channel()
    watcher.queue_declare("q")
    _fill(watcher, "q", 4)
    with FaultProxy(any_broker.port) as proxy:
        parameters = pika.URLParameters(any_broker.url)
        parameters.port = proxy.port
        holder = pika.BlockingConnection(parameters)
        _hold_and_lose(holder, any_broker, proxy)
    assert get_all(watcher, "q") == [b"1", b"2", b"3"]


def _hold_and_lose(holder: pika.BlockingConnection, broker: BrokerUnderTest, proxy: FaultProxy) -> None:
    held = holder.channel()
    collect(held, got := consume(held, "q"), 4)
    held.basic_ack(got[0][0].delivery_tag)
    held.close()
    broker.wait("q", ready=3, unacked=0)
    again = holder.channel()
    collect(again, got := consume(again, "q"), 3)
    assert all(method.redelivered for method, _, _ in got)
    proxy.rst()  # the client is gone without a word
    broker.wait("q", ready=3, unacked=0)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        holder.process_data_events(time_limit=5)


def test_recover(channel: BlockingChannel) -> None:
    channel.queue_declare("q")
    _fill(channel, "q", 2)
    collect(channel, got := consume(channel, "q"), 2)
    channel.basic_recover(requeue=True)
    collect(channel, got, 4)
    assert [(body, method.redelivered) for method, _, body in got[2:]] == [(b"0", True), (b"1", True)]


@pytest.mark.parametrize("multiple", [False, True])
def test_an_unknown_delivery_tag(channel: BlockingChannel, multiple: bool) -> None:
    channel.queue_declare("q")
    _fill(channel, "q", 1)
    tag = channel.basic_get("q")[0].delivery_tag
    channel.basic_ack(tag)
    channel.basic_ack(tag, multiple=multiple)
    with refused(406, f"unknown delivery tag {tag}"):
        channel.queue_declare("q")


def test_consumers_are_served_round_robin(channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("q")
    others = [connect().channel() for _ in range(3)]
    got = [consume(other, "q") for other in others]
    _fill(channel, "q", 9)
    for other, mine in zip(others, got, strict=True):
        collect(other, mine, 3)


def test_consumer_priorities_and_a_single_active_consumer(channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("p")
    low, high = connect().channel(), connect().channel()
    for each in (low, high):
        each.basic_qos(prefetch_count=2)
    got_low = consume(low, "p")
    got_high = consume(high, "p", arguments={"x-priority": 5})
    _fill(channel, "p", 3)
    assert bodies(collect(high, got_high, 2)) == [b"0", b"1"]
    assert bodies(collect(low, got_low, 1)) == [b"2"]
    channel.queue_declare("s", arguments={"x-single-active-consumer": True})
    first, second = connect().channel(), connect().channel()
    got_first = consume(first, "s")
    got_second = consume(second, "s")
    _fill(channel, "s", 4)
    collect(first, got_first, 4)
    first.connection.close()
    assert bodies(collect(second, got_second, 4)) == [b"0", b"1", b"2", b"3"]


def test_exclusive_consumers(channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("q")
    consume(channel, "q", exclusive=True)
    with refused(403, "exclusive"):
        consume(connect().channel(), "q")
    channel.queue_declare("r")
    consume(connect().channel(), "r")
    with refused(403, "exclusive"):
        consume(connect().channel(), "r", exclusive=True)


def test_a_consumer_hears_that_its_queue_is_gone(channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("q")
    other = connect().channel()
    cancelled: list[str] = []
    other.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    consume(other, "q", consumer_tag="mine")
    channel.queue_delete("q")
    while not cancelled:
        other.connection.process_data_events(time_limit=0.2)
    assert cancelled == ["mine"]


def test_cancelling_keeps_what_was_delivered(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("q")
    channel.basic_qos(prefetch_count=2)
    _fill(channel, "q", 4)
    collect(channel, got := consume(channel, "q", consumer_tag="c"), 2)
    channel.basic_cancel("c")
    channel.basic_ack(got[-1][0].delivery_tag, multiple=True)
    any_broker.wait("q", ready=2, unacked=0)


def test_message_priorities(channel: BlockingChannel) -> None:
    channel.queue_declare("q", arguments={"x-max-priority": 5})
    for number, priority in enumerate([None, 5, 1, 9, 0, 5]):
        channel.basic_publish("", "q", str(number).encode(), pika.BasicProperties(priority=priority))
    assert get_all(channel, "q") == [b"1", b"3", b"5", b"2", b"0", b"4"]
