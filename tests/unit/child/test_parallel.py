"""The event loop of a child, without a ring: when it may claim again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.child.parallel import ParallelTasks


class Link:
    """A link without records; it drops outcomes."""

    def __init__(self, fds: tuple[int, ...]) -> None:
        self.wait_fds = fds
        self.signals = 0

    def look(self) -> None:
        """Nothing has happened."""

    def signal(self) -> None:
        """Count."""
        self.signals += 1


@pytest.fixture
def link() -> Iterator[Link]:
    pipes = [os.pipe() for _ in range(2)]
    yield Link(tuple(read for read, _ in pipes))
    for fd in sum(pipes, ()):
        os.close(fd)


@pytest.fixture
def gate() -> asyncio.Event:
    """What the coroutines wait for."""
    return asyncio.Event()


@pytest.fixture
def coroutines(link: Link, gate: asyncio.Event) -> Iterator[ParallelTasks[Any]]:
    async def outcome_of(_run: Any, _limited: Any) -> None:
        await gate.wait()

    soft: Any = SimpleNamespace()
    coroutines: ParallelTasks[Any] = ParallelTasks(link, soft, outcome_of, 3, str)  # type: ignore[arg-type]
    yield coroutines
    assert coroutines._loop is not None
    coroutines._loop.close()
    asyncio.set_event_loop(None)


def begin(coroutines: ParallelTasks[Any], number: int) -> None:
    coroutines.begin(SimpleNamespace(seq=number), None)


def test_there_is_room_whenever_nothing_runs_however_early_the_loop_stops(
    coroutines: ParallelTasks[Any], gate: asyncio.Event
) -> None:
    """A child with nothing to run that is not allowed to claim would spin for ever."""
    for number in range(3):
        begin(coroutines, number)
    assert not coroutines.has_room
    loop = coroutines._loop
    assert loop is not None
    loop.call_soon(gate.set)
    for _ in range(20):
        # Left over from an earlier run, as a stop is that was asked for twice in one turn.
        loop.stop()
        coroutines.serve()
        assert coroutines.has_room or len(coroutines._running) == 3
    assert not coroutines.busy and coroutines.has_room


def test_what_has_ended_before_the_loop_runs_is_signalled(
    coroutines: ParallelTasks[Any], gate: asyncio.Event, link: Link
) -> None:
    """A function ran while a coroutine waits: its end must not wait too."""
    begin(coroutines, 1)
    assert coroutines._loop is not None
    seen: list[int] = []
    coroutines._loop.call_soon(lambda: seen.append(link.signals))
    coroutines._loop.call_soon(gate.set)
    coroutines.finish()
    assert seen == [1]


def test_who_leaves_claims_nothing_more(coroutines: ParallelTasks[Any], gate: asyncio.Event, link: Link) -> None:
    for number in range(2):
        begin(coroutines, number)
    assert coroutines._loop is not None
    coroutines._loop.call_soon(gate.set)
    coroutines.finish()
    assert not coroutines.busy and not coroutines.has_room
    assert link.signals


def test_libraries_that_ask_for_the_loop_get_it_before_a_coroutine_runs(
    coroutines: ParallelTasks[Any], gate: asyncio.Event
) -> None:
    begin(coroutines, 1)
    assert asyncio.get_event_loop() is coroutines._loop
    gate.set()
    coroutines.finish()
