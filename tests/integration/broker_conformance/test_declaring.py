"""Queues and exchanges: what may be declared, bound and deleted, and what the refusals say."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.harness.embedded import BrokerUnderTest
from tests.harness.processes import wait_until
from tests.integration.broker_conformance.clients import consume, refused
from tests.integration.broker_conformance.conftest import Connect


def test_declaring_again_is_no_change_and_tells_the_counts(channel: BlockingChannel, connect: Connect) -> None:
    arguments = {"x-max-priority": 5, "x-message-ttl": 60000, "unknown": "kept"}
    for _ in range(2):
        channel.queue_declare("q", durable=True, arguments=arguments)
    channel.basic_publish("", "q", b"")
    settled = channel.queue_declare("q", durable=True, arguments=arguments)
    assert (settled.method.queue, settled.method.message_count, settled.method.consumer_count) == ("q", 1, 0)
    consume(connect().channel(), "q")
    assert channel.queue_declare("q", passive=True).method.consumer_count == 1
    for _ in range(2):
        channel.exchange_declare("x", "topic", durable=True)
    channel.exchange_declare("x", passive=True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"durable": False}, "durable"),
        ({"auto_delete": True}, "auto_delete"),
        ({"arguments": {"x-max-priority": 6}}, "x-max-priority"),
        ({"arguments": {}}, "x-max-priority"),
        ({"arguments": {"x-max-priority": 5, "x-message-ttl": 1}}, "x-message-ttl"),
        ({"arguments": {"x-max-priority": 5, "x-dead-letter-exchange": "x"}}, "x-dead-letter-exchange"),
    ],
)
def test_a_queue_declared_otherwise(channel: BlockingChannel, change: dict[str, Any], name: str) -> None:
    declared: dict[str, Any] = {"durable": True, "arguments": {"x-max-priority": 5}}
    channel.queue_declare("q", **declared)
    with refused(406, f"inequivalent arg '{name}' for queue 'q'"):
        channel.queue_declare("q", **{**declared, **change})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"durable": False}, "durable"),
        ({"exchange_type": "fanout"}, "type"),
        ({"internal": True}, "internal"),
    ],
)
def test_an_exchange_declared_otherwise(channel: BlockingChannel, change: dict[str, Any], name: str) -> None:
    declared: dict[str, Any] = {"exchange_type": "direct", "durable": True}
    channel.exchange_declare("x", **declared)
    with refused(406, f"inequivalent arg '{name}' for exchange 'x'"):
        channel.exchange_declare("x", **{**declared, **change})


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-message-ttl": "soon"},
        {"x-message-ttl": -1},
        {"x-expires": 0},
        {"x-max-priority": 256},
        {"x-dead-letter-exchange": 1},
        {"x-dead-letter-routing-key": "k"},
        {"x-overflow": "spill"},
        {"x-queue-type": "heap"},
    ],
)
def test_bad_queue_arguments(channel: BlockingChannel, arguments: dict[str, Any]) -> None:
    with refused(406, next(iter(arguments))):
        channel.queue_declare("q", arguments=arguments)


def test_what_is_missing(connect: Connect) -> None:
    connection = connect()
    for call, what in (
        (lambda channel: channel.queue_declare("m", passive=True), "queue 'm'"),
        (lambda channel: channel.exchange_declare("m", passive=True), "exchange 'm'"),
        (lambda channel: channel.queue_bind("m", "amq.direct", "k"), "queue 'm'"),
        (lambda channel: channel.basic_get("m"), "queue 'm'"),
        (lambda channel: channel.basic_consume("m", print), "queue 'm'"),
        (lambda channel: channel.queue_purge("m"), "queue 'm'"),
        (lambda channel: channel.exchange_bind("amq.fanout", "m"), "exchange 'm'"),
    ):
        with refused(404, f"no {what}"):
            call(connection.channel())
    channel = connection.channel()
    channel.queue_declare("q")
    with refused(404, "no exchange 'm'"):
        channel.queue_bind("q", "m", "k")
    channel = connection.channel()
    channel.queue_delete("m")
    channel.exchange_delete("m")


def test_what_is_reserved(connect: Connect) -> None:
    connection = connect()
    for call in (
        lambda channel: channel.queue_declare("amq.mine"),
        lambda channel: channel.exchange_declare("amq.mine", "direct"),
        lambda channel: channel.exchange_delete("amq.direct"),
        lambda channel: channel.exchange_delete(""),
    ):
        with refused(403, "ACCESS_REFUSED"):
            call(connection.channel())
    channel = connection.channel()
    channel.queue_declare("q")
    with refused(403, "default exchange"):
        channel.queue_bind("q", "", "k")


def test_an_unknown_exchange_type_is_refused(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    closed, code = pika.exceptions.ConnectionClosedByBroker, 503
    if any_broker.release >= (4, 0):
        closed, code = pika.exceptions.ChannelClosedByBroker, 406
    with pytest.raises(closed, match=f"{code}.*unknown exchange type 'odd'"):
        channel.exchange_declare("x", "odd")


def test_a_queue_named_by_the_broker_is_the_channels_last(channel: BlockingChannel, connect: Connect) -> None:
    name = channel.queue_declare("").method.queue
    assert name.startswith("amq.gen-")
    assert channel.queue_declare("").method.queue != name
    with refused(403, "reserved prefix"):
        connect().channel().queue_declare(name)
    channel.queue_declare(name, passive=True)
    channel.queue_bind("", "amq.topic", "k")
    channel.basic_publish("amq.topic", "k", b"x")
    assert channel.basic_get("")[2] == b"x"


def test_deleting_only_what_is_unused_or_empty(channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"")
    connection = connect()
    with refused(406, "not empty|406"):
        connection.channel().queue_delete("q", if_empty=True)
    consume(connect().channel(), "q", auto_ack=True)
    with refused(406, "in use"):
        connection.channel().queue_delete("q", if_unused=True)
    channel.exchange_declare("x", "direct")
    channel.queue_bind("q", "x", "k")
    with refused(406, "in use"):
        connection.channel().exchange_delete("x", if_unused=True)
    assert channel.queue_delete("q").method.message_count == 0
    channel.exchange_delete("x", if_unused=True)
    with refused(404, "no exchange"):
        channel.exchange_declare("x", passive=True)


def test_an_exclusive_queue_is_its_connections_alone(connect: Connect, any_broker: BrokerUnderTest) -> None:
    owner, other = connect(), connect()
    mine = owner.channel()
    mine.confirm_delivery()
    mine.queue_declare("q", exclusive=True)
    for call in (
        lambda channel: channel.queue_declare("q", exclusive=True),
        lambda channel: channel.queue_declare("q", passive=True),
        lambda channel: channel.basic_consume("q", print),
        lambda channel: channel.queue_delete("q"),
    ):
        with refused(405, "RESOURCE_LOCKED"):
            call(other.channel())
    mine.basic_publish("", "q", b"x")
    assert mine.queue_declare("q", passive=True).method.message_count == 1
    owner.close()
    any_broker.wait_gone("q")


def test_auto_delete(channel: BlockingChannel, connect: Connect, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("q", auto_delete=True)
    channel.exchange_declare("x", "direct", auto_delete=True)
    channel.queue_bind("q", "x", "k")
    first, second = connect(), connect()
    consume(first.channel(), "q")
    consume(second.channel(), "q")
    first.close()

    def consumers() -> int:
        return int(channel.queue_declare("q", passive=True).method.consumer_count)

    wait_until("the first consumer is gone", lambda: consumers() == 1, 60)
    second.close()
    any_broker.wait_gone("q")
    with refused(404, "no exchange 'x'"):
        channel.exchange_declare("x", passive=True)


def test_an_unused_queue_expires(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("idle", arguments={"x-expires": 150})
    # Longer than it may take to get to the consumer.
    channel.queue_declare("used", arguments={"x-expires": 3000})
    consume(channel, "used")
    any_broker.wait_gone("idle")
    assert any_broker.counts("used") is not None
    wait_until("the consumer is cancelled", lambda: channel.basic_cancel(channel.consumer_tags[0]) is not None, 60)
    any_broker.wait_gone("used")


def test_purge(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    channel.queue_declare("q")
    for _ in range(3):
        channel.basic_publish("", "q", b"")
    held, _, _ = channel.basic_get("q")
    assert channel.queue_purge("q").method.message_count == 2
    channel.basic_nack(held.delivery_tag)
    any_broker.wait("q", ready=1, unacked=0)
