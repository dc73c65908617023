"""What a change of the queues asks of the link and of the messages that are here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from turbo.amqp.consume.wanted_queues import WantedQueues
from turbo.amqp.topology import task_queue
from turbo.master.delivery.queue_changes import QueueChanges


class Link:
    """Queues without a broker."""

    def __init__(self, *names: str) -> None:
        self.wanted = WantedQueues(map(task_queue, names))
        self.calls: list[str] = []

    async def apply(self, name: str) -> None:
        self.calls.append(f"{'consume' if name in self.wanted.unpaused() else 'stop'} {name}")


@pytest.mark.row("RC28")
def test_the_other_parts_know_a_queue_before_its_first_message_and_after_its_last() -> None:
    link: Any = Link("a")
    known = dict(link.wanted)
    changes = QueueChanges(link, known, lambda _name: 0)

    async def change() -> None:
        await changes.add(task_queue("b"))
        await changes.cancel("b")
        await changes.cancel("nosuch")

    asyncio.run(change())
    assert link.calls == ["consume b", "stop b", "stop nosuch"]
    assert known == {"a": task_queue("a"), "b": task_queue("b")}


@pytest.mark.row("RC28")
def test_pausing_returns_what_has_not_started_after_the_consumer_has_ended() -> None:
    link: Any = Link("a")

    def return_unstarted(name: str) -> int:
        link.calls.append(f"return {name}")
        return 3

    changes = QueueChanges(link, dict(link.wanted), return_unstarted)

    async def change() -> list[bool]:
        return [
            await changes.pause("a"),
            await changes.pause("x"),
            await changes.resume("a"),
            await changes.resume("x"),
        ]

    assert asyncio.run(change()) == [True, False, True, False]
    assert link.calls == ["stop a", "return a", "consume a"]
    # Adding a queue that is there ends its pause.
    link.wanted.pause("a")
    asyncio.run(changes.add(task_queue("a")))
    assert link.calls[3:] == ["consume a"]
