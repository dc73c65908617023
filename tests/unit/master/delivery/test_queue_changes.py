"""What a change of the queues asks of the link and of the messages that are here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from turbo.amqp.consume.wanted_queues import WantedQueues
from turbo.amqp.topology import Queue, task_queue
from turbo.master.delivery.paused_queues import PausedQueues
from turbo.master.delivery.queue_changes import QueueChanges


class Link:
    """Queues without a broker."""

    def __init__(self, *names: str) -> None:
        self.wanted = WantedQueues(map(task_queue, names))
        self.calls: list[str] = []

    async def apply(self, name: str) -> None:
        self.calls.append(f"{'consume' if name in self.wanted.to_consume() else 'stop'} {name}")


class Places:
    """What is asked about messages that wait here."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def return_unstarted(self, queue: str) -> int:
        self.calls.append(f"return {queue}")
        return 3

    def hold_unstarted(self, queue: str) -> int:
        self.calls.append(f"hold {queue}")
        return 3


def places(calls: list[str]) -> tuple[Any, Callable[[str], None]]:
    """Return the places, and what takes messages in again."""
    return Places(calls), lambda queue: calls.append(f"take up {queue}")


@pytest.mark.row("RC28")
def test_the_other_parts_know_a_queue_before_its_first_message_and_after_its_last() -> None:
    link: Any = Link("a")
    known = dict(link.wanted)
    changes = QueueChanges(link, known, *places(link.calls))

    async def change() -> None:
        await changes.add(task_queue("b"))
        await changes.cancel("b")
        await changes.cancel("nosuch")

    asyncio.run(change())
    assert link.calls == ["take up b", "consume b", "stop b", "take up b", "stop nosuch", "take up nosuch"]
    assert known == {"a": task_queue("a"), "b": task_queue("b")}


@pytest.mark.row("RC28")
def test_pausing_returns_what_has_not_started_after_the_consumer_has_ended() -> None:
    link: Any = Link("a")
    changes = QueueChanges(link, dict(link.wanted), *places(link.calls))

    async def change() -> list[bool]:
        return [
            await changes.pause("a"),
            await changes.pause("x"),
            await changes.resume("a"),
            await changes.resume("x"),
        ]

    assert asyncio.run(change()) == [True, False, True, False]
    assert link.calls == ["stop a", "return a", "take up a", "consume a"]
    # Adding a queue that is there ends its pause.
    link.wanted.pause("a")
    asyncio.run(changes.add(task_queue("a")))
    assert link.calls[4:] == ["take up a", "consume a"]


@pytest.mark.row("RC28")
@pytest.mark.parametrize(
    "queue",
    [
        Queue("q", queue_arguments={"x-single-active-consumer": True}),
        Queue("q", exclusive_consumer=True),
        Queue("q", auto_delete=True),
    ],
    ids=["single active consumer", "exclusive consumer", "auto-delete"],
)
def test_a_consumer_that_would_lose_its_place_stays(queue: Queue) -> None:
    link: Any = Link()
    link.wanted["q"] = queue
    changes = QueueChanges(link, dict(link.wanted), *places(link.calls))

    async def change() -> None:
        await changes.pause("q")
        assert list(link.wanted.to_consume()) == link.wanted.paused == ["q"], "also after a reconnect"
        await changes.resume("q")
        await changes.pause("q")
        await changes.cancel("q")

    asyncio.run(change())
    assert link.calls == ["hold q", "take up q", "consume q", "hold q", "stop q", "return q", "take up q"]


@pytest.mark.row("RC28")
def test_cancelling_a_paused_queue_ends_its_pause() -> None:
    link: Any = Link()
    link.wanted["q"] = Queue("q", auto_delete=True)
    paused = PausedQueues()

    class Held(Places):
        def hold_unstarted(self, queue: str) -> int:
            paused.pause(queue)
            return super().hold_unstarted(queue)

    changes = QueueChanges(link, dict(link.wanted), Held(link.calls), paused.resume)  # type: ignore[arg-type]

    async def change() -> None:
        await changes.pause("q")
        assert paused.names == {"q"}
        await changes.cancel("q")
        assert paused.names == set(), "a delivery that was on its way would be held for ever"

    asyncio.run(change())


@pytest.mark.row("RC28")
def test_a_queue_that_is_added_and_paused_while_it_is_cancelled_stays_paused() -> None:
    link: Any = Link()
    queue = link.wanted["q"] = Queue("q", auto_delete=True)
    changes = QueueChanges(link, dict(link.wanted), *places(link.calls))

    async def again() -> None:
        await changes.add(queue)
        await changes.pause("q")

    async def change() -> None:
        await changes.pause("q")
        stop = link.apply

        async def meanwhile(name: str) -> None:
            link.apply = stop
            await again()
            await stop(name)

        link.apply = meanwhile
        await changes.cancel("q")

    asyncio.run(change())
    assert link.calls == ["hold q", "take up q", "consume q", "hold q", "consume q"], "nothing returns"
    assert link.wanted.paused == ["q"]
