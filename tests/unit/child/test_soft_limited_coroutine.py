"""The soft limit of a coroutine: raised where it waits, once, and never mistaken for a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.child import soft_limited_coroutine as limited
from turbo.child.soft_limited_coroutine import SoftLimitedCoroutine, SoftTimer
from turbo.exceptions import SoftTimeLimitExceeded


async def drive(limited: SoftLimitedCoroutine) -> Any:
    return await limited


def test_a_body_returns_and_raises_as_it_is() -> None:
    async def fine() -> str:
        await asyncio.sleep(0)
        return "done"

    async def bad() -> None:
        await asyncio.sleep(0)
        raise KeyError("k")

    assert asyncio.run(drive(SoftLimitedCoroutine(fine(), SoftTimeLimitExceeded))) == "done"
    with pytest.raises(KeyError, match="k"):
        asyncio.run(drive(SoftLimitedCoroutine(bad(), SoftTimeLimitExceeded)))


def test_what_is_awaited_may_raise_into_the_body() -> None:
    async def body() -> str:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, OSError("gone"))
        try:
            await future
        except OSError as error:
            return str(error)
        return "no"

    assert asyncio.run(drive(SoftLimitedCoroutine(body(), SoftTimeLimitExceeded))) == "gone"


@pytest.mark.parametrize("caught", [True, False])
def test_the_limit_is_raised_where_the_body_waits(caught: bool) -> None:
    async def body() -> str:
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            if not caught:
                raise
        # A timeout of its own still works afterwards, and is not taken for the limit.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return "went on"

    async def scenario() -> Any:
        limited = SoftLimitedCoroutine(body(), SoftTimeLimitExceeded)
        task = asyncio.ensure_future(drive(limited))
        await asyncio.sleep(0)
        limited.expire(task)
        return await task

    if caught:
        assert asyncio.run(scenario()) == "went on"
    else:
        with pytest.raises(SoftTimeLimitExceeded):
            asyncio.run(scenario())


def test_a_timeout_around_the_wait_still_ends_as_one() -> None:
    async def body() -> None:
        async with asyncio.timeout(None) as own:
            try:
                await asyncio.Event().wait()
            except SoftTimeLimitExceeded:
                own.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()

    async def scenario() -> None:
        limited = SoftLimitedCoroutine(body(), SoftTimeLimitExceeded)
        task = asyncio.ensure_future(drive(limited))
        await asyncio.sleep(0)
        limited.expire(task)
        await task

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())


def test_another_cancellation_stays_one() -> None:
    async def body() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        task = asyncio.ensure_future(drive(SoftLimitedCoroutine(body(), SoftTimeLimitExceeded)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())


def test_a_group_inside_the_body_is_cancelled_with_it() -> None:
    ended: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part("a"))
            group.create_task(part("b"))

    async def scenario() -> None:
        limited = SoftLimitedCoroutine(body(), SoftTimeLimitExceeded)
        task = asyncio.ensure_future(drive(limited))
        for _ in range(3):
            await asyncio.sleep(0)
        limited.expire(task)
        await task

    with pytest.raises(SoftTimeLimitExceeded):
        asyncio.run(scenario())
    assert sorted(ended) == ["a", "b"]


def test_after_the_body_nothing_is_cut_short() -> None:
    async def body() -> str:
        return "done"

    async def scenario() -> tuple[str, bool]:
        limited = SoftLimitedCoroutine(body(), SoftTimeLimitExceeded)

        async def outcome() -> str:
            found: str = await limited
            await asyncio.sleep(0.01)  # the store's answer, say
            return found

        task = asyncio.create_task(outcome())
        await asyncio.sleep(0)
        limited.expire(task)
        return await task, task.cancelled()

    assert asyncio.run(scenario()) == ("done", False)


class Clock:
    """A loop with one timer, and the time; the test lets it pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.stopped = 0.0
        self.due: float | None = None
        monkeypatch.setattr(limited, "time", SimpleNamespace(monotonic_ns=lambda: int(self.now * 1e9)))

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        self.due, self._callback = self.now + delay, callback
        return SimpleNamespace(cancel=lambda: setattr(self, "due", None))

    def stopped_ns(self) -> int:
        return int(self.stopped * 1e9)

    def wake(self, late: float = 0.0) -> None:
        assert self.due is not None
        self.now, self.due = self.due + late, None
        self._callback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def calls(clock: Clock) -> list[float]:
    """When the limit of five seconds was raised."""
    return []


@pytest.fixture
def timer(clock: Clock, calls: list[float]) -> SoftTimer:
    fake: Any = clock
    return SoftTimer(fake, fake, 5.0, lambda: calls.append(clock.now))


@pytest.mark.parametrize("late", [0.0, 0.9])
@pytest.mark.usefixtures("timer")
def test_the_timer_of_a_limit_acts_when_it_is_due(clock: Clock, calls: list[float], late: float) -> None:
    clock.wake(late)
    assert calls == [1005.0 + late]


@pytest.mark.usefixtures("timer")
def test_time_in_which_the_worker_was_stopped_does_not_count(clock: Clock, calls: list[float]) -> None:
    clock.stopped = 60.0
    clock.wake(59.0)
    assert not calls and clock.due == pytest.approx(1065.0)
    clock.wake()
    assert calls == [pytest.approx(1065.0)]


@pytest.mark.usefixtures("timer")
def test_a_late_timer_lets_the_master_speak_first(clock: Clock, calls: list[float]) -> None:
    clock.wake(59.0)
    assert not calls
    clock.stopped = 60.0
    clock.wake()
    assert not calls and clock.due == pytest.approx(1065.0)
    clock.wake()
    assert calls == [pytest.approx(1065.0)]


@pytest.mark.usefixtures("timer")
def test_a_child_whose_loop_was_blocked_raises_the_limit_afterwards(clock: Clock, calls: list[float]) -> None:
    clock.wake(59.0)
    clock.wake(3.0)
    assert len(calls) == 1 and clock.due is None


def test_what_ended_needs_no_timer(timer: SoftTimer, clock: Clock) -> None:
    timer.cancel()
    assert clock.due is None
