"""pika connections for the conformance tests, closed at the end of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from tests.harness.embedded import BrokerUnderTest

Connect = Callable[[], BlockingConnection]


@pytest.fixture
def connect(any_broker: BrokerUnderTest) -> Iterator[Connect]:
    """Return a function that makes pika connections to the broker under test."""
    made: list[BlockingConnection] = []

    def one() -> BlockingConnection:
        made.append(BlockingConnection(pika.URLParameters(f"{any_broker.url}?heartbeat=30")))
        return made[-1]

    yield one
    for connection in made:
        if connection.is_open:
            connection.close()


@pytest.fixture
def channel(connect: Connect) -> BlockingChannel:
    """A channel on its own connection; a publish returns when the broker has confirmed it."""
    made = connect().channel()
    made.confirm_delivery()
    return made
