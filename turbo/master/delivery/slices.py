"""Work on many things on the master's loop, a slice at a time, so that the loop has its turn in between.

Runs in the master; ``master.delivery.revoking`` goes through all that waits here with it. The work is an iterator that
yields what each of its steps costs; how much is done at once follows from these costs alone, not from a clock. It must
never be given work that leaves something half done between two steps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What one slice may cost. A step that costs 1 takes some microseconds, so that a slice takes some milliseconds.
SLICE: Final = 1_000


class Slices:
    """One piece of work. Begins at once, and may be finished when the constructor returns."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Iterator[int]) -> None:
        self._loop = loop
        self._work = work
        self._ended: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.finished = False
        self._go_on()

    async def wait(self) -> None:
        """Return when it is done. Raises what the work raised."""
        if not self.finished:
            if self._ended is None:
                self._ended = self._loop.create_future()
            await asyncio.shield(self._ended)
        if self._error is not None:
            raise self._error

    def _go_on(self) -> None:
        left = SLICE
        try:
            for cost in self._work:
                left -= cost
                if left <= 0:
                    self._loop.call_soon(self._go_on)
                    return
        except Exception as error:
            # Whoever waits hears of it, and the loop, which logs it.
            self._error = error
            raise
        finally:
            if left > 0 or self._error is not None:
                self.finished = True
                if self._ended is not None and not self._ended.done():
                    self._ended.set_result(None)
