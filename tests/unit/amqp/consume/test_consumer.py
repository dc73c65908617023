"""The consumers of a channel when a change to them is given up halfway, as it is when the worker stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from turbo.amqp.consume.consumer import ConsumerTable, Pause
from turbo.amqp.topology import Queue

Change = Callable[[ConsumerTable, "Calls"], Coroutine[Any, Any, Any]]


class Calls:
    """A channel that waits before each answer while ``slow``, and remembers what it was asked."""

    def __init__(self) -> None:
        self.slow = False
        self.consumed: set[str] = set()
        self.unknown: list[str] = []
        self.limits: list[int] = []

    async def _answer(self) -> None:
        if self.slow:
            await asyncio.sleep(0)

    async def limit(self, window: int) -> None:
        self.limits.append(window)
        await self._answer()

    async def consume(self, _queue: str, tag: str, _arguments: Any, *, exclusive: bool, no_ack: bool) -> None:
        self.consumed.add(tag)
        await self._answer()

    async def cancel(self, tag: str) -> None:
        if tag not in self.consumed:
            self.unknown.append(tag)
        self.consumed.discard(tag)
        await self._answer()


async def _consume(table: ConsumerTable, calls: Calls) -> None:
    await table.consume(calls, Queue("third"), known=True)  # type: ignore[arg-type]


async def _swap(table: ConsumerTable, calls: Calls) -> None:
    await table.swap(calls, 7)  # type: ignore[arg-type]


async def _add(table: ConsumerTable, calls: Calls) -> None:
    await table.swap(calls, 7, add=True)  # type: ignore[arg-type]


async def _add_and_swap(table: ConsumerTable, calls: Calls) -> None:
    await _add(table, calls)
    await _swap(table, calls)


async def _pause_and_resume(table: ConsumerTable, calls: Calls) -> None:
    await table.pause(calls)  # type: ignore[arg-type]
    await table.resume(calls)  # type: ignore[arg-type]


def test_deliveries_that_follow_cancel_ok_still_belong_to_the_stopped_consumer() -> None:
    async def run() -> None:
        table, calls = ConsumerTable(4, 4), Calls()
        await table.consume(calls, Queue("first"), known=True)  # type: ignore[arg-type]
        for window in range(100):
            await table.swap(calls, window)  # type: ignore[arg-type]
        tags = [f"turbo-{number}".encode() for number in range(1, 102)]
        known = [consumer for consumer in map(table.by_tag, tags) if consumer is not None]
        assert {consumer.queue.name for consumer in known} == {"first"}
        assert [consumer.tag.encode() for consumer in known] == tags[-65:], "the newest 64, and the running one"

    asyncio.run(run())


def test_a_window_may_be_widened_by_another_consumer() -> None:
    async def run() -> None:
        table, calls = ConsumerTable(2, 2), Calls()
        await table.consume(calls, Queue("q"), known=True)  # type: ignore[arg-type]
        await table.swap(calls, 3, add=True)  # type: ignore[arg-type]
        await table.swap(calls, 7, add=True)  # type: ignore[arg-type]
        assert calls.limits == [2, 1, 4], "together they admit as many as the window"
        assert calls.consumed == {tag.decode() for tag in table.running_tags()} == {"turbo-1", "turbo-2", "turbo-3"}
        await table.swap(calls, 5, add=True)  # type: ignore[arg-type]
        assert calls.consumed == {tag.decode() for tag in table.running_tags()} == {"turbo-4"}, "a narrower one is new"
        await table.swap(calls, 6, add=True)  # type: ignore[arg-type]
        assert table.forget(b"turbo-4")[1] is False, "the other one is left"
        assert table.forget(b"turbo-5")[1] is True
        assert table.names == frozenset()

    asyncio.run(run())


def test_a_pause_for_want_of_room_leaves_the_consumers_that_would_lose_their_place() -> None:
    async def run() -> None:
        table, calls = ConsumerTable(4, 4), Calls()
        single = Queue("single", queue_arguments={"x-single-active-consumer": True})
        for queue in (Queue("plain"), single, Queue("temporary", auto_delete=True)):
            await table.consume(calls, queue, known=True)  # type: ignore[arg-type]
        await table.pause(calls, Pause.BUT_KEPT)  # type: ignore[arg-type]
        assert calls.consumed == {"turbo-2", "turbo-3"}
        await table.swap(calls, 1)  # type: ignore[arg-type]
        assert calls.consumed == {"turbo-2", "turbo-4"}, "only the window of the auto-delete queue can change"
        await table.consume(calls, Queue("exclusive", exclusive=True), known=True)  # type: ignore[arg-type]
        await table.consume(calls, Queue("another"), known=True)  # type: ignore[arg-type]
        assert calls.consumed == {"turbo-2", "turbo-4", "turbo-5"}
        await table.swap(calls, 3)  # type: ignore[arg-type]
        await table.resume(calls)  # type: ignore[arg-type]
        assert len(calls.consumed) == 5
        await table.pause(calls)  # type: ignore[arg-type]
        assert (calls.consumed, calls.unknown) == (set(), [])

    asyncio.run(run())


def test_a_removed_queue_keeps_no_consumer() -> None:
    async def run() -> None:
        table, calls = ConsumerTable(2, 2), Calls()
        await table.consume(calls, Queue("q"), known=True)  # type: ignore[arg-type]
        await table.swap(calls, 3, add=True)  # type: ignore[arg-type]
        await table.remove(calls, "q")  # type: ignore[arg-type]
        assert calls.consumed == set()

    asyncio.run(run())


@pytest.mark.parametrize("change", [_consume, _swap, _add, _add_and_swap, _pause_and_resume])
def test_what_is_given_up_halfway_leaves_nothing_that_a_pause_does_not_end(change: Change) -> None:
    async def given_up_after(steps: int) -> bool:
        """Whether the change had ended before."""
        table, calls = ConsumerTable(4, 4), Calls()
        for name in ("first", "second"):
            await table.consume(calls, Queue(name), known=True)  # type: ignore[arg-type]
        calls.slow = True
        task = asyncio.ensure_future(change(table, calls))
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        await table.pause(calls)  # type: ignore[arg-type]
        assert calls.consumed == set(), f"after {steps} steps"
        assert calls.unknown == [], f"after {steps} steps"
        return ended

    steps = 0
    while not asyncio.run(given_up_after(steps)):
        steps += 1
    assert steps > 2
