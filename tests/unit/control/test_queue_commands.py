"""The commands about queues: their replies, and the names that they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from turbo import Turbo
from turbo.amqp.topology import Exchange, Queue
from turbo.control.queue_commands import QueueCommands
from turbo.native.commands import NativeCommands


class Changes:
    """Remembers what was asked for; consumes from ``q``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    async def add(self, queue: Queue) -> None:
        self.calls.append(("add", queue))

    async def cancel(self, name: str) -> None:
        self.calls.append(("cancel", name))

    async def pause(self, name: str) -> bool:
        self.calls.append(("pause", name))
        return name == "q"

    async def resume(self, name: str) -> bool:
        self.calls.append(("resume", name))
        return name == "q"


def _made(changes: Changes) -> Any:
    app = Turbo("a", set_as_current=False)
    app.conf.task_queues = {"known": {"exchange": "ex", "exchange_type": "topic", "routing_key": "a.*"}}
    commands = NativeCommands(app, "one@here", None)

    async def queue_of(name: str, options: dict[str, Any]) -> Queue:
        return commands.queue_to_add(name, options)

    async def deselect(name: str) -> None:
        commands.queue_cancelled(name)

    made: Any = changes
    return SimpleNamespace(**QueueCommands(made, queue_of, deselect).table())


def _run(reply: Coroutine[Any, Any, dict[str, str]]) -> dict[str, str]:
    return asyncio.run(reply)


@pytest.mark.row("RC28")
def test_a_new_queue_has_celerys_defaults_and_a_known_one_its_own_options() -> None:
    changes = Changes()
    table = _made(changes)
    assert _run(table.add_consumer("new")) == {"ok": "add consumer new"}
    assert _run(table.add_consumer(queue="other", exchange="e", exchange_type="topic", routing_key="k.#"))
    assert _run(table.add_consumer("known", exchange="ignored", routing_key="ignored"))
    assert _run(table.add_consumer("short", queue_arguments={"x-max-length": 3}, durable=False))
    new, other, known, short = (queue for _, queue in changes.calls)
    assert new == Queue("new", Exchange("new"), "new")
    assert other == Queue("other", Exchange("e", "topic"), "k.#")
    assert known == Queue("known", Exchange("ex", "topic"), "a.*")
    assert (short.durable, dict(short.queue_arguments)) == (False, {"x-max-length": 3})


@pytest.mark.row("RC28")
def test_cancelling_pausing_and_resuming() -> None:
    changes = Changes()
    table = _made(changes)
    assert _run(table.cancel_consumer("q")) == {"ok": "no longer consuming from q"}
    assert _run(table.pause("q")) == {"ok": "queue q is paused"}
    assert _run(table.resume("q")) == {"ok": "queue q is resumed"}
    assert _run(table.pause("x")) == _run(table.resume("x")) == {"error": "this worker does not consume from x"}
    assert changes.calls[:3] == [("cancel", "q"), ("pause", "q"), ("resume", "q")]


@pytest.mark.parametrize("name", ["", "x" * 256, None, 3, ["q"], "\udc80" * 100])
def test_what_is_no_name_of_a_queue_is_refused(name: Any) -> None:
    changes = Changes()
    table = _made(changes)
    for command in (table.add_consumer, table.cancel_consumer, table.pause, table.resume):
        with pytest.raises(ValueError, match="not the name of a queue"):
            _run(command(name))
    assert changes.calls == []
