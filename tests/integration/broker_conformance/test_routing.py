"""Publishing: what reaches which queue, unchanged; what is confirmed, returned, refused."""

from __future__ import annotations

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.integration.broker_conformance.clients import get_all, refused

TOPICS = {
    "all": "#",
    "one": "*",
    "tail": "task.#",
    "middle": "task.*.done",
    "both": "#.done.#",
    "exact": "task.a.done",
    "empty": "",
}
TOPIC_CASES = {
    "task.a.done": {"all", "tail", "middle", "both", "exact"},
    "task": {"all", "one", "tail"},
    "done": {"all", "one", "both"},
    "task.a.b.done": {"all", "tail", "both"},
    "x.done.y.z": {"all", "both"},
    "": {"all", "empty"},
    "task.": {"all", "tail"},
}


def test_a_message_arrives_as_it_was_published(channel: BlockingChannel) -> None:
    channel.queue_declare("q")
    sent = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={
            "task": "t",
            "list": [1, None, {"deep": True}],
            "big": 2**40,
            "bytes": b"\xff\x00",
            "retries": 0,
        },
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="m",
        timestamp=1_700_000_000,
        type="y",
        app_id="a",
    )
    channel.basic_publish("", "q", b"body", sent)
    method, properties, body = channel.basic_get("q")
    assert (method.redelivered, method.exchange, method.routing_key, method.message_count) == (
        False,
        "",
        "q",
        0,
    )
    assert (properties, body) == (sent, b"body")


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 3_000_000])
def test_bodies_of_any_size(channel: BlockingChannel, size: int) -> None:
    channel.queue_declare("q")
    body = bytes(range(256)) * (size // 256 + 1)
    channel.basic_publish("", "q", body[:size])
    assert channel.basic_get("q")[2] == body[:size]


def test_topics(channel: BlockingChannel) -> None:
    channel.exchange_declare("x", "topic")
    for queue, pattern in TOPICS.items():
        channel.queue_declare(queue)
        channel.queue_bind(queue, "x", pattern)
    got = {}
    for key in TOPIC_CASES:
        channel.basic_publish("x", key, b"!")
        got[key] = {queue for queue in TOPICS if get_all(channel, queue)}
    assert got == TOPIC_CASES


def test_direct_and_fanout_and_a_queue_bound_twice(channel: BlockingChannel) -> None:
    for kind in ("direct", "fanout"):
        channel.exchange_declare(kind, kind)
        for queue, key in ((f"{kind}-a", "a"), (f"{kind}-b", "b"), (f"{kind}-b", "a")):
            channel.queue_declare(queue)
            channel.queue_bind(queue, kind, key)
        for key in ("a", "b", "c"):
            channel.basic_publish(kind, key, key.encode())
    assert get_all(channel, "direct-a") == [b"a"]
    assert get_all(channel, "direct-b") == [b"a", b"b"]
    assert get_all(channel, "fanout-a") == get_all(channel, "fanout-b") == [b"a", b"b", b"c"]
    channel.queue_unbind("direct-b", "direct", "a")
    channel.queue_unbind("direct-b", "direct", "never bound")
    channel.basic_publish("direct", "a", b"again")
    assert (get_all(channel, "direct-a"), get_all(channel, "direct-b")) == ([b"again"], [])


def test_headers_exchange(channel: BlockingChannel) -> None:
    channel.exchange_declare("h", "headers")
    rules = {
        "all": {"x-match": "all", "a": 1, "b": "two"},
        "any": {"x-match": "any", "a": 1, "b": "two"},
        "default": {"a": 1},
        "none": {},
    }
    for queue, arguments in rules.items():
        channel.queue_declare(queue)
        channel.queue_bind(queue, "h", "", arguments)
    cases = [
        ({"a": 1, "b": "two", "c": 3}, {"all", "any", "default", "none"}),
        ({"a": 1}, {"any", "default", "none"}),
        ({"b": "two"}, {"any", "none"}),
        ({"a": 2, "b": "too"}, {"none"}),
        (None, {"none"}),
    ]
    for headers, expected in cases:
        channel.basic_publish("h", "", b"!", pika.BasicProperties(headers=headers))
        assert {queue for queue in rules if get_all(channel, queue)} == expected, headers


def test_exchange_to_exchange_and_alternate_exchange(channel: BlockingChannel) -> None:
    channel.exchange_declare("front", "topic", arguments={"alternate-exchange": "rest"})
    channel.exchange_declare("back", "direct")
    channel.exchange_declare("rest", "fanout")
    channel.exchange_bind("back", "front", "a.#")
    channel.exchange_bind("front", "back", "a.b")  # a circle
    for queue, exchange, key in (("deep", "back", "a.b"), ("rest", "rest", "")):
        channel.queue_declare(queue)
        channel.queue_bind(queue, exchange, key)
    channel.basic_publish("front", "a.b", b"deep")
    channel.basic_publish("front", "z", b"rest")
    assert (get_all(channel, "deep"), get_all(channel, "rest")) == ([b"deep"], [b"rest"])
    channel.exchange_unbind("back", "front", "a.#")
    channel.basic_publish("front", "a.b", b"now the rest")
    assert (get_all(channel, "deep"), get_all(channel, "rest")) == ([], [b"now the rest"])


def test_confirms_and_mandatory_returns(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"1", mandatory=True)
    channel.basic_publish("", "nowhere", b"2")
    with pytest.raises(pika.exceptions.UnroutableError) as caught:
        channel.basic_publish("", "nowhere", b"3", pika.BasicProperties(message_id="m"), mandatory=True)
    (returned,) = caught.value.messages
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
    assert (returned.method.routing_key, returned.body, returned.properties.message_id) == (
        "nowhere",
        b"3",
        "m",
    )
    assert get_all(channel, "q") == [b"1"]


def test_a_full_queue_refuses_or_drops(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.queue_declare("refuses", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.queue_declare("drops", arguments={"x-max-length": 2})
    for body in (b"1", b"2"):
        channel.basic_publish("", "refuses", body)
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", "refuses", b"3")
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", "drops", body)
    assert get_all(channel, "refuses") == [b"1", b"2"]
    assert get_all(channel, "drops") == [b"2", b"3"]


def test_publishing_to_a_missing_exchange(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    with refused(404, "no exchange 'missing'"):
        channel.basic_publish("missing", "q", b"")


def test_publishing_to_an_internal_exchange(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.exchange_declare("i", "fanout", internal=True)
    with refused(403, "internal exchange"):
        channel.basic_publish("i", "q", b"")


def test_a_bad_expiration_is_refused(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.queue_declare("q")
    with refused(406, "expiration"):
        channel.basic_publish("", "q", b"", pika.BasicProperties(expiration="soon"))
