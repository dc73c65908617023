"""The store of an application that keeps no results.

Implements ``ResultStore``, so that the master treats every task in the same way. Runs in the master; opens nothing. It
never calls ``done`` inside ``store``, because callers rely on that for every store.
"""

from __future__ import annotations

import asyncio

from turbo.backends.store import Done, ResultWrite, StoreOutcome, report


class DisabledStore:
    """Reports every write as ``DISCARDED`` in the next iteration of the event loop."""

    def __init__(self, *, high_water: int = 10_000) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Done] = []
        self._high_water = high_water

    @property
    def backlog(self) -> int:
        """Number of writes accepted in this iteration of the loop."""
        return len(self._waiting)

    @property
    def high_water(self) -> int:
        """The backlog at which a store counts as congested.

        Not used here, since the backlog is emptied at once.
        """
        return self._high_water

    @property
    def congested(self) -> bool:
        """Always False."""
        return False

    def store(self, write: ResultWrite, done: Done) -> None:
        """Discard the document and call ``done`` in the next iteration of the loop."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._report)
        self._waiting.append(done)

    def _report(self) -> None:
        waiting, self._waiting = self._waiting, []
        report((done, StoreOutcome.DISCARDED) for done in waiting)

    async def start(self) -> None:
        """Remember the running loop; there is nothing to connect to."""
        self._loop = asyncio.get_running_loop()

    async def drain(self, deadline: float) -> bool:
        """Wait until every pending ``done`` was called; return True."""
        while self._waiting:
            await asyncio.sleep(0)
        return True

    async def stop(self, deadline: float) -> None:
        """Drain; there is nothing to close."""
        await self.drain(deadline)
