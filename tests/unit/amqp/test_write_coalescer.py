"""One flush a turn, stragglers later."""

from __future__ import annotations

from collections.abc import Callable

from turbo.amqp.write_coalescer import WriteCoalescer


class Handle:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A loop that runs its callbacks when the test asks for it."""

    def __init__(self) -> None:
        self.soon: list[Handle] = []
        self.later: list[tuple[float, Handle]] = []

    def call_soon(self, callback: Callable[[], None]) -> Handle:
        self.soon.append(Handle(callback))
        return self.soon[-1]

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.later.append((delay, Handle(callback)))
        return self.later[-1][1]

    def turn(self) -> None:
        handles, self.soon = self.soon, []
        for handle in handles:
            if not handle.cancelled:
                handle.callback()

    def time_passes(self) -> None:
        timers, self.later = self.later, []
        for _delay, handle in timers:
            if not handle.cancelled:
                handle.callback()


def make(held_back: bool) -> tuple[FakeLoop, list[bool], WriteCoalescer]:
    loop, calls = FakeLoop(), []

    def flush(last: bool) -> bool:
        calls.append(last)
        return held_back and not last

    return loop, calls, WriteCoalescer(flush, loop=loop)


def test_many_marks_one_flush() -> None:
    loop, calls, turn = make(held_back=False)
    for _ in range(5):
        turn.mark()
    assert calls == []
    loop.turn()
    assert calls == [False]
    loop.turn()
    assert calls == [False]
    turn.mark()
    loop.turn()
    assert calls == [False, False]
    assert not loop.later


def test_what_is_held_back_leaves_within_two_milliseconds() -> None:
    loop, calls, turn = make(held_back=True)
    turn.mark()
    loop.turn()
    turn.mark()
    loop.turn()
    assert [delay for delay, _ in loop.later] == [0.002]
    loop.time_passes()
    assert calls == [False, False, True]


def test_now_and_cancel() -> None:
    loop, calls, turn = make(held_back=True)
    turn.mark()
    turn.now()
    loop.turn()
    assert calls == [True]
    turn.mark()
    loop.turn()
    turn.cancel()
    loop.time_passes()
    assert calls == [True, False]
