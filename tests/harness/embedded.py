"""Runs the embedded broker in a thread, and gives it and RabbitMQ a common interface."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.processes import PATIENCE, HarnessError, wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from turbo.embedded_broker.broker import EmbeddedBroker


@dataclass(frozen=True, slots=True)
class Counts:
    """The message and consumer counts of a queue."""

    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True, slots=True)
class BrokerUnderTest:
    """Either broker in the conformance tests: an empty virtual host, and the counts of its queues."""

    kind: str
    url: str
    port: int
    counts: Callable[[str], Counts | None]
    #: The version of RabbitMQ, or the one that the embedded broker imitates: some replies depend on it.
    release: tuple[int, int] = (3, 10)

    def wait(
        self, queue: str, *, ready: int | None = None, unacked: int | None = None, timeout: float = PATIENCE
    ) -> None:
        """Wait until the queue has these counts."""
        last: list[Counts | None] = [None]

        def reached() -> bool:
            last[0] = facts = self.counts(queue)
            return facts is not None and ready in (None, facts.ready) and unacked in (None, facts.unacked)

        try:
            wait_until(f"{queue}: {ready=} {unacked=}", reached, timeout)
        except HarnessError as error:
            raise HarnessError(f"{error}; last seen {last[0]}") from None

    def wait_gone(self, queue: str, timeout: float = PATIENCE) -> None:
        """Wait until the queue does not exist."""
        wait_until(f"{queue} is gone", lambda: self.counts(queue) is None, timeout)


class ThreadedBroker:
    """The embedded broker with its own event loop and thread."""

    def __init__(self) -> None:
        self.broker = EmbeddedBroker()
        self.port = 0
        self._names = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded-broker", daemon=True)

    def start(self) -> ThreadedBroker:
        """Start the broker on a free port; return self."""
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self.broker.start(), self._loop).result(PATIENCE)
        return self

    def close(self) -> None:
        """Stop the broker and its loop."""
        stopping = self.broker.stop(time.monotonic() + 3)
        asyncio.run_coroutine_threadsafe(stopping, self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def under_test(self) -> BrokerUnderTest:
        """Return a new virtual host of this broker."""
        name = f"e{next(self._names)}"
        url = f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

        async def ask(queue: str) -> Counts | None:
            facts = self.broker.queue_facts(queue, name)
            return None if facts is None else Counts(facts.ready, facts.unacked, facts.consumers)

        return BrokerUnderTest(
            "embedded",
            url,
            self.port,
            lambda queue: asyncio.run_coroutine_threadsafe(ask(queue), self._loop).result(PATIENCE),
        )


def rabbitmq_under_test(rabbitmq: RabbitMQ, vhost: str) -> BrokerUnderTest:
    """Return the same interface for a virtual host of RabbitMQ."""

    def ask(queue: str) -> Counts | None:
        facts = rabbitmq.queue(queue, vhost_of(vhost))
        return None if facts is None else Counts(facts.ready, facts.unacked, facts.consumers)

    return BrokerUnderTest("rabbitmq", vhost, rabbitmq.port, ask, rabbitmq.version)
