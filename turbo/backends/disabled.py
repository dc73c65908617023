"""The store of an application that keeps no results.

Stands where a real store would, so that the master has one way for every task. Runs in the master; opens
nothing. It never calls ``done`` from inside ``store``: callers rely on that of every store.
"""

from __future__ import annotations

import asyncio

from turbo.backends.store import Done, ResultWrite, StoreOutcome, report


class DisabledStore:
    """Answers every write with ``DISCARDED`` in the next turn of the loop."""

    def __init__(self, *, high_water: int = 10_000) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Done] = []
        self._high_water = high_water

    @property
    def backlog(self) -> int:
        """Writes accepted in this turn of the loop."""
        return len(self._waiting)

    @property
    def high_water(self) -> int:
        """Never reached in practice: the backlog is emptied every turn."""
        return self._high_water

    @property
    def congested(self) -> bool:
        """Never: there is nothing to wait for."""
        return False

    def store(self, write: ResultWrite, done: Done) -> None:
        """Forget the document; ``done`` hears of it in the next turn."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._answer)
        self._waiting.append(done)

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        report((done, StoreOutcome.DISCARDED) for done in waiting)

    async def start(self) -> None:
        """Nothing to connect to."""
        self._loop = asyncio.get_running_loop()

    async def drain(self, deadline: float) -> bool:
        """Let the pending answers out."""
        while self._waiting:
            await asyncio.sleep(0)
        return True

    async def stop(self, deadline: float) -> None:
        """Let the pending answers out; nothing to close."""
        await self.drain(deadline)
