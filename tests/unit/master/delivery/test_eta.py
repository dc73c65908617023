"""Held messages whose time has come: handed on in order, so many in one turn of the loop."""

from __future__ import annotations

import time
from typing import Any

from turbo.master.delivery import eta
from turbo.master.delivery.eta import EtaShelf
from turbo.master.delivery.ledger import Delivery
from turbo.policy.delivery_lifecycle import State


class Loop:
    """Timers that the test fires."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Any]] = []

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        timer = (delay, lambda: callback(*args))
        self.timers.append(timer)

        class Handle:
            def cancel(_self) -> None:
                if timer in self.timers:
                    self.timers.remove(timer)

        return Handle()

    def fire(self) -> float:
        delay, callback = self.timers.pop(0)
        callback()
        return delay


def test_many_that_are_due_at_once_are_handed_on_in_several_batches() -> None:
    loop: Any = Loop()
    due: list[int] = []
    shelf = EtaShelf(loop)
    shelf.on_due.add(lambda delivery: due.append(delivery.tag))
    then = time.time() - 1
    for tag in range(1, 2 * eta._AT_ONCE + 51):
        delivery = Delivery(1, "q", tag, b"", b"", b"")
        delivery.move(State.HELD)
        delivery.due = then
        shelf.hold(delivery)
    counts = []
    while loop.timers:
        assert loop.fire() == 0, "at once, after a turn"
        counts.append(len(due))
    assert counts == [eta._AT_ONCE, 2 * eta._AT_ONCE, 2 * eta._AT_ONCE + 50]
    assert due == sorted(due)
    assert len(shelf) == 0
