"""What all tests with faults use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from pika.exceptions import AMQPError

from tests.adversity.torture.load import Producer


@pytest.fixture
def producer(vhost: str) -> Iterator[Producer]:
    """Publishes to the worker's queue, past every proxy."""
    made = Producer(vhost)
    yield made
    # Some of the tests have the broker close every connection, this one too.
    with contextlib.suppress(AMQPError):
        made.close()
