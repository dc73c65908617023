"""Whether others lack what a worker holds, by what the broker says of a queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from turbo.amqp.consume.consumer import ConsumerTable
from turbo.amqp.consume.settler import Settler
from turbo.amqp.topology import Queue


class Broker:
    """A session with a broker that says this of each queue: ready messages and consumers."""

    def __init__(self, ready: int, consumers: int) -> None:
        self.consumers = ConsumerTable(2, 2)
        self.declarer = self
        self._facts = (ready, consumers)

    async def inspect(self, _name: str) -> tuple[int, int]:
        return self._facts

    async def limit(self, _window: int) -> None: ...

    async def consume(self, *_args: Any, **_options: Any) -> None: ...


@pytest.mark.parametrize(
    ("ready", "consumers", "stopped", "lacks"),
    [
        (0, 1, [], False),
        (0, 2, [], True),
        (1, 2, [], False),  # the others have enough to do
        # A quorum queue counts a stopped consumer until its messages are settled.
        (0, 2, [b"stopped"], False),
        (0, 3, [b"stopped"], True),
        (0, 2, [b"turbo-1"], True),  # the one that runs
    ],
)
def test_who_else_consumes_an_empty_queue_lacks_messages(
    ready: int, consumers: int, stopped: list[bytes], lacks: bool
) -> None:
    async def run() -> bool:
        settler, session = Settler(), Broker(ready, consumers)
        assert not await settler.others_lack("q"), "without a session nothing is known"
        await session.consumers.consume(session, Queue("q"), known=True)  # type: ignore[arg-type]
        settler._session = session  # type: ignore[assignment]
        return await settler.others_lack("q", frozenset(stopped))

    assert asyncio.run(run()) is lacks
