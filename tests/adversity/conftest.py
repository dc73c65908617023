"""Fixtures for all tests that inject faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from pika.exceptions import AMQPError

from tests.adversity.torture.load import Producer


@pytest.fixture
def producer(vhost: str) -> Iterator[Producer]:
    """A producer that publishes directly to the worker's queue, without a proxy."""
    made = Producer(vhost)
    yield made
    # Some of the tests have the broker close every connection, this one too.
    with contextlib.suppress(AMQPError):
        made.close()
