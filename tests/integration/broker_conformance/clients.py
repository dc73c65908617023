"""Helper functions of the conformance tests."""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

Delivery = tuple[Any, pika.BasicProperties, bytes]


def collect(channel: BlockingChannel, into: list[Delivery], count: int, timeout: float = 60) -> list[Delivery]:
    """Process events until the list `into`, which a consumer fills, has `count` deliveries."""
    deadline = time.monotonic() + timeout
    while len(into) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(into)} of {count} deliveries"
        channel.connection.process_data_events(time_limit=min(left, 0.2))
    return into


def settle_down(channel: BlockingChannel) -> None:
    """Make a round trip on the channel, so that everything the broker sent before has arrived."""
    channel.basic_qos(prefetch_count=0)
    channel.connection.process_data_events(time_limit=0.1)


def consume(channel: BlockingChannel, queue: str, **options: Any) -> list[Delivery]:
    """Start a consumer that keeps its deliveries in a list."""
    got: list[Delivery] = []

    def keep(_: BlockingChannel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        got.append((method, properties, body))

    channel.basic_consume(queue, keep, **options)
    return got


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    """Return the bodies of deliveries."""
    return [body for _, _, body in deliveries]


def get_all(channel: BlockingChannel, queue: str) -> list[bytes]:
    """Return the bodies of all ready messages."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None or body is None:
            return found
        found.append(body)


def refused(code: int, text: str) -> Any:
    """Check that the block makes the broker close the channel with this code and text."""
    return pytest.raises(pika.exceptions.ChannelClosedByBroker, match=rf"{code}.*{text}")
