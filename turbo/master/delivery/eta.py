"""Holds deliveries in the master until their ETA.

Runs in the master. Before it: ``master.delivery.intake`` (ETA seen on receipt) and ``master.outcome.outcomes`` (found
by a child). After it: ``master.delivery.intake`` again, which checks the expiry a second time before the hand-over.
Holding must never block the prefetch window: ``master.window`` widens it by the number of held messages.

Each wake-up computes the timer from the wall clock and compares again on waking. A stepped clock therefore delays a
task by at most :data:`_LONGEST_NAP` and never starts it early.
"""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING

from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from turbo.master.delivery.ledger import Delivery

_LONGEST_NAP = 60.0
#: Due deliveries handed on per pass of the loop: each may have expired or been revoked meanwhile.
_AT_ONCE = 100


class EtaShelf:
    """A heap of held deliveries, and one timer for the earliest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: Called with a delivery whose time has come.
        self.on_due: Observers[Delivery] = Observers()
        self._heap: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def hold(self, delivery: Delivery) -> None:
        """Keep a HELD delivery until ``delivery.due`` (seconds since the epoch)."""
        heapq.heappush(self._heap, (delivery.due, next(self._order), delivery))
        self._held += 1
        if self._heap[0][2] is delivery:
            self._arm()

    def withdraw(self) -> list[Delivery]:
        """Empty the shelf and return the deliveries still held."""
        held = [item[2] for item in sorted(self._heap, key=lambda item: item[:2]) if item[2].state is State.HELD]
        self._heap.clear()
        self._held = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return held

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove those of ``wanted`` that are held here, and return them."""
        taken = [item[2] for item in self._heap if item[2] in wanted and item[2].state is State.HELD]
        if taken:
            self._heap = [item for item in self._heap if item[2] not in wanted]
            heapq.heapify(self._heap)
            self._held -= len(taken)
            self._arm()
        return taken

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            wait = min(max(0.0, self._heap[0][0] - time.time()), _LONGEST_NAP)
            self._timer = self._loop.call_later(wait, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.time()
        due: list[Delivery] = []
        while self._heap and self._heap[0][0] <= now and len(due) < _AT_ONCE:
            delivery = heapq.heappop(self._heap)[2]
            self._held -= 1
            if delivery.state is State.HELD:
                due.append(delivery)
        self._arm()
        for delivery in due:
            self.on_due(delivery)
