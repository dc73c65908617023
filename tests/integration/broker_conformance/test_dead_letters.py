"""Messages that leave a queue without an acknowledgement: where they go and what is written on them."""

from __future__ import annotations

import datetime
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from tests.harness.embedded import BrokerUnderTest
from tests.integration.broker_conformance.clients import collect, consume, get_all


def _declare(channel: BlockingChannel, name: str = "q", **arguments: Any) -> None:
    channel.exchange_declare("dlx", "fanout")
    channel.queue_declare("dead")
    channel.queue_bind("dead", "dlx", "")
    extra = {name.replace("_", "-"): value for name, value in arguments.items()}
    channel.queue_declare(name, arguments={"x-dead-letter-exchange": "dlx", **extra})


def _dead(channel: BlockingChannel, broker: BrokerUnderTest) -> tuple[Any, Any, bytes]:
    broker.wait("dead", ready=1)
    method, properties, body = channel.basic_get("dead", auto_ack=True)
    assert method is not None and properties is not None and body is not None
    return method, properties, body


def test_a_rejected_message_tells_its_death(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    _declare(channel)
    headers = {"task": "t", "n": 1, "deep": {"list": [1, "x"]}}
    channel.basic_publish("", "q", b"x", pika.BasicProperties(headers=headers, message_id="m", priority=1))
    channel.basic_reject(channel.basic_get("q")[0].delivery_tag, requeue=False)
    method, properties, body = _dead(channel, any_broker)
    # RabbitMQ 4.3 counts the delivery before its death as one.
    assert (method.exchange, method.routing_key) == ("dlx", "q")
    assert method.redelivered is (any_broker.release >= (4, 3))
    assert (body, properties.message_id, properties.priority) == (b"x", "m", 1)
    (death,) = properties.headers.pop("x-death")
    when = death.pop("time")
    assert abs(datetime.datetime.now(datetime.UTC) - when) < datetime.timedelta(seconds=30)
    assert death == {"count": 1, "reason": "rejected", "queue": "q", "exchange": "", "routing-keys": ["q"]}
    first = {name: properties.headers.pop(f"x-first-death-{name}") for name in ("reason", "queue", "exchange")}
    assert first == {"reason": "rejected", "queue": "q", "exchange": ""}
    last = {name: properties.headers.pop(f"x-last-death-{name}", None) for name in first}
    assert last == (first if any_broker.release >= (4, 0) else dict.fromkeys(first))
    assert properties.headers == headers


def test_deaths_of_one_kind_are_counted(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    _declare(channel)
    channel.basic_publish("", "q", b"x")
    headers: dict[str, Any] = {}
    for _ in range(3):
        channel.basic_nack(channel.basic_get("q")[0].delivery_tag, requeue=False)
        headers = _dead(channel, any_broker)[1].headers
        channel.basic_publish("", "q", b"x", pika.BasicProperties(headers=headers))
    (death,) = headers["x-death"]
    # RabbitMQ 4 does not take a publisher's word for earlier deaths.
    assert (death["count"], death["reason"]) == (3 if any_broker.release < (4, 0) else 1, "rejected")


def test_messages_expire_by_their_own_or_the_queues_time(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    _declare(channel, "own")
    _declare(channel, "all", **{"x-message-ttl": 80, "x-dead-letter-routing-key": "k"})
    channel.basic_publish("", "own", b"own", pika.BasicProperties(expiration="50"))
    channel.basic_publish("", "own", b"stays")
    _, properties, body = _dead(channel, any_broker)
    (death,) = properties.headers["x-death"]
    assert (body, death["reason"], death["original-expiration"]) == (b"own", "expired", "50")
    assert properties.expiration is None
    channel.basic_publish("", "all", b"all", pika.BasicProperties(expiration="60000"))
    method, properties, body = _dead(channel, any_broker)
    assert (body, method.routing_key, properties.headers["x-death"][0]["queue"]) == (b"all", "k", "all")
    assert get_all(channel, "own") == [b"stays"]


def test_what_a_full_queue_drops(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    _declare(channel, **{"x-max-length": 1})
    for body in (b"1", b"2"):
        channel.basic_publish("", "q", body)
    _, properties, body = _dead(channel, any_broker)
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"1", "maxlen")


def test_a_circle_of_expiries_ends_but_one_with_a_rejection_goes_on(
    channel: BlockingChannel, any_broker: BrokerUnderTest
) -> None:
    channel.queue_declare("back", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"})
    channel.queue_declare(
        "wait",
        arguments={"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "back"},
    )
    channel.basic_publish("", "back", b"x")
    for turn in (1, 2, 3):
        any_broker.wait("back", ready=1)
        method, properties, _ = channel.basic_get("back")
        deaths = (properties.headers or {}).get("x-death", [])
        assert [death["count"] for death in deaths] == ([turn - 1] * 2 if turn > 1 else [])
        channel.basic_reject(method.delivery_tag, requeue=False)
    channel.queue_declare(
        "self",
        arguments={"x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "self"},
    )
    channel.basic_publish("", "self", b"x")
    any_broker.wait("self", ready=0)


def test_without_a_dead_letter_exchange_it_is_gone(channel: BlockingChannel, any_broker: BrokerUnderTest) -> None:
    _declare(channel)
    channel.exchange_delete("dlx")
    channel.basic_publish("", "q", b"", pika.BasicProperties(expiration="0"))
    any_broker.wait("q", ready=0)
    assert get_all(channel, "dead") == []


def test_a_quorum_queue_counts_deliveries_up_to_its_limit(
    channel: BlockingChannel, any_broker: BrokerUnderTest
) -> None:
    _declare(channel, "lost")
    channel.queue_declare(
        "q",
        durable=True,
        arguments={"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "dlx"},
    )
    channel.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2, headers={"kept": 1}))
    counts = []
    for _ in range(3):
        collected = consume(channel, "q", consumer_tag="c")
        method, properties, _ = collect(channel, collected, 1)[0]
        properties.headers.pop("x-acquired-count", None)  # of RabbitMQ 4.3
        counts.append((properties.headers.pop("x-delivery-count", None), method.redelivered, properties.headers))
        channel.basic_cancel("c")
        channel.basic_reject(method.delivery_tag, requeue=True)
    assert counts == [(None, False, {"kept": 1}), (1, True, {"kept": 1}), (2, True, {"kept": 1})]
    assert _dead(channel, any_broker)[1].headers["x-death"][0]["reason"] == "delivery_limit"
