"""Consumers and messages of consumer steps, on a channel that records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from turbo import Exchange, Queue
from turbo.amqp import topology
from turbo.app.consuming import Consumer, Message
from turbo.exceptions import ContentDisallowed, DecodeError, MessageStateError


class Recorder:
    """A channel without a connection."""

    accept = frozenset({"application/json"})

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.deliver: Callable[[bytes, Mapping[str, Any], dict[str, Any]], object] = lambda *_: None

    def declare(self, queue: topology.Queue) -> None:
        """Record it."""
        self.calls.append(("declare", queue.name, queue.exchange.name, queue.routing_key))

    def qos(self, prefetch_count: int) -> None:
        """Record it."""
        self.calls.append(("qos", prefetch_count))

    def consume(
        self,
        queue: topology.Queue,
        tag: str,
        on_delivery: Callable[[bytes, Mapping[str, Any], dict[str, Any]], object],
        no_ack: bool,
    ) -> None:
        """Record it, and keep the callback."""
        self.deliver = on_delivery
        self.calls.append(("consume", queue.name, tag.partition("-")[0], no_ack))

    def cancel(self, tag: str) -> None:
        """Record it."""
        self.calls.append(("cancel", tag.partition("-")[0]))

    def ack(self, delivery_tag: int, multiple: bool) -> None:
        """Record it."""
        self.calls.append(("ack", delivery_tag, multiple))

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Record it."""
        self.calls.append(("reject", delivery_tag, requeue))

    def close(self) -> None:
        """Record it."""
        self.calls.append(("close",))


@pytest.fixture
def channel() -> Recorder:
    return Recorder()


def _arrive(channel: Recorder, body: bytes, content_type: str = "application/json", **headers: object) -> None:
    properties = {"content_type": content_type, "content_encoding": "utf-8", "headers": headers}
    channel.deliver(body, properties, {"delivery_tag": 7, "redelivered": False})


def test_a_consumer_declares_and_consumes_once(channel: Recorder) -> None:
    queue = Queue("q", Exchange("x"), "k")
    with Consumer(channel, [queue], prefetch_count=5, tag_prefix="mine-") as consumer:
        consumer.consume()
        assert channel.calls == [("qos", 5), ("declare", "q", "x", "k"), ("consume", "q", "mine", False)]
    assert channel.calls[3:] == [("cancel", "mine")]


def test_each_callback_gets_the_decoded_body_and_the_message(channel: Recorder) -> None:
    got: list[tuple[Any, Message]] = []
    consumer = Consumer(channel, Queue("q"), callbacks=[lambda *given: got.append(given)])
    consumer.register_callback(lambda body, message: message.ack())
    consumer.consume()
    _arrive(channel, b'{"a": 1}', kind="k")
    ((body, message),) = got
    assert (body, message.headers, message.acknowledged) == ({"a": 1}, {"kind": "k"}, True)
    assert channel.calls[-1] == ("ack", 7, False)


def test_a_message_is_settled_once(channel: Recorder) -> None:
    got: list[Message] = []
    Consumer(channel, Queue("q"), on_message=got.append).consume()
    _arrive(channel, b"1")
    got[0].requeue()
    assert channel.calls[-1] == ("reject", 7, True)
    with pytest.raises(MessageStateError, match="settled already, by REQUEUED"):
        got[0].ack()


def test_content_that_is_not_accepted_is_not_decoded(channel: Recorder) -> None:
    Consumer(channel, Queue("q"), callbacks=[lambda *_: None], accept=["json"]).consume()
    with pytest.raises(ContentDisallowed):
        _arrive(channel, b"x", "application/x-python-serialize")


def test_an_unreadable_body_goes_to_its_own_callback(channel: Recorder) -> None:
    got: list[Exception] = []
    Consumer(channel, Queue("q"), callbacks=[], on_decode_error=lambda _, error: got.append(error)).consume()
    with pytest.raises(NotImplementedError, match="does not have any callbacks"):
        _arrive(channel, b"{")
    Consumer(
        channel, Queue("q"), callbacks=[lambda *_: None], on_decode_error=lambda _, error: got.append(error)
    ).consume()
    _arrive(channel, b"{")
    assert [type(error) for error in got] == [DecodeError]
