from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from turbo.master.outcome import hook_thread
from turbo.master.outcome.hook_thread import HookThread, WaitedReceivers

#: Seconds within which a thread does the next thing.
PATIENCE = 30.0


class Timer:
    """What a loop's ``call_later`` gives."""

    def __init__(self, loop: Loop, delay: float, call: Callable[[], None]) -> None:
        self.loop = loop
        self.due = loop.now + delay
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self, late: float = 0.0) -> None:
        """Come, in time or so many seconds late."""
        self.loop.now = max(self.loop.now, self.due + late)
        if not self.cancelled:
            self.call()


class Loop:
    """A loop that runs its callbacks when the test asks for it, in the order of the test."""

    def __init__(self) -> None:
        #: Seconds.
        self.now = 1000.0
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.timers: list[Timer] = []

    def call_soon_threadsafe(self, what: Callable[..., None], *args: Any) -> None:
        self._posted.put(lambda: what(*args))

    def call_later(self, delay: float, what: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(self, delay, lambda: what(*args))
        self.timers.append(timer)
        return timer

    def posted(self) -> Callable[[], None]:
        """The next thing that a thread has asked for, not done yet."""
        return self._posted.get(timeout=PATIENCE)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    clock = SimpleNamespace(monotonic=time.monotonic, monotonic_ns=lambda: int(loop.now * 1e9))
    monkeypatch.setattr(hook_thread, "time", clock)
    return loop


@pytest.fixture
def hooks(loop: Loop) -> HookThread:
    return HookThread(cast("Any", loop), 1.0)


def test_a_call_is_answered_with_what_it_returned(loop: Loop, hooks: HookThread) -> None:
    answers: list[Any] = []
    hooks.submit("A call", lambda: 7, answers.append)
    loop.posted()()
    loop.posted()()
    assert answers == [7]
    assert loop.timers[0].cancelled


def test_a_call_that_ends_just_as_it_is_given_up_costs_no_other_its_answer(loop: Loop, hooks: HookThread) -> None:
    answers: list[Any] = []
    may_end = threading.Event()
    hooks.submit("The first", lambda: may_end.wait(PATIENCE), answers.append)
    hooks.submit("The second", lambda: "second", answers.append)
    loop.posted()()
    may_end.set()
    ended = [loop.posted() for _ in range(3)]
    # The thread has gone on to the second, of which the loop knows nothing yet, when the first one's time is up.
    loop.timers[0].fire()
    for tell in ended:
        tell()
    assert answers == [True, "second"]


def test_after_a_call_that_does_not_return_others_are_answered(loop: Loop, hooks: HookThread) -> None:
    answers: list[Any] = []
    may_end = threading.Event()
    threads: list[threading.Thread] = []

    def stay() -> None:
        threads.append(threading.current_thread())
        may_end.wait(PATIENCE)

    hooks.submit("One that does not return", stay, answers.append)
    loop.posted()()
    loop.timers[0].fire()
    assert answers == [None]
    hooks.submit("Another", lambda: "other", answers.append)
    loop.posted()()
    loop.posted()()
    assert answers == [None, "other"]
    may_end.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()


def test_draining_ends_as_soon_as_every_call_is_answered() -> None:
    async def drained() -> list[bool]:
        hooks = HookThread(asyncio.get_running_loop())
        unused = await hooks.drain(time.monotonic() + PATIENCE)
        may_end = threading.Event()
        hooks.submit("A call", lambda: may_end.wait(PATIENCE))
        too_early = await hooks.drain(time.monotonic() + 0.01)
        may_end.set()
        return [unused, too_early, await hooks.drain(time.monotonic() + PATIENCE)]

    began = time.monotonic()
    assert asyncio.run(drained()) == [True, False, True]
    assert time.monotonic() - began < PATIENCE


def test_time_in_which_the_worker_was_stopped_does_not_count(loop: Loop) -> None:
    hooks = HookThread(cast("Any", loop), 2.5)
    answers: list[Any] = []
    may_end = threading.Event()
    hooks.submit("A call", lambda: may_end.wait(PATIENCE), answers.append)
    loop.posted()()
    loop.timers[0].fire()
    # Stopped for a minute: of that nothing counts, nor of the second for which the timer was asked.
    loop.timers[1].fire(late=60)
    loop.timers[2].fire()
    assert answers == []
    loop.timers[3].fire()
    assert answers == [None]
    assert len(loop.timers) == 4
    may_end.set()


def test_code_that_asks_the_process_to_end_is_answered_as_any_that_raises(loop: Loop, hooks: HookThread) -> None:
    answers: list[Any] = []

    def leave() -> None:
        raise SystemExit(3)

    hooks.submit("A receiver that leaves", leave, answers.append)
    hooks.submit("Another", lambda: "other", answers.append)
    for _ in range(4):
        loop.posted()()
    assert answers == [None, "other"]


def test_receivers_are_not_called_again_after_one_hung(loop: Loop, hooks: HookThread) -> None:
    asked: list[str] = []
    answered: list[str] = []
    receivers = WaitedReceivers(hooks, "task_received")
    may_end = threading.Event()

    def deaf() -> None:
        asked.append("first")
        may_end.wait(PATIENCE)

    receivers.run(deaf, lambda: answered.append("first"))
    loop.posted()()
    loop.timers[0].fire()
    assert receivers.hung
    receivers.run(lambda: asked.append("second"), lambda: answered.append("second"))
    loop.posted()()
    loop.posted()()
    assert (asked, answered) == (["first"], ["first", "second"])
    may_end.set()


def test_receivers_are_called_again_after_one_raised(loop: Loop, hooks: HookThread) -> None:
    answered: list[str] = []
    receivers = WaitedReceivers(hooks, "task_received")

    def fail() -> None:
        raise ValueError("of the program's own")

    receivers.run(fail, lambda: answered.append("first"))
    loop.posted()()
    loop.posted()()
    assert answered == ["first"] and not receivers.hung
