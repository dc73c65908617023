"""Runs long work on the master's loop in slices, between other callbacks.

Runs in the master; ``master.delivery.revoking`` searches all waiting deliveries with it. The work is an iterator that
yields the cost of each step; these costs, not a clock, end a slice. It must never be given work that is inconsistent
between two steps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Cost of one slice. A step of cost 1 takes some microseconds, so a slice takes some milliseconds.
SLICE: Final = 1_000


class Slices:
    """One piece of work.

    It starts in the constructor and may be finished when that returns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Iterator[int]) -> None:
        self._loop = loop
        self._work = work
        self._ended: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.finished = False
        self._go_on()

    async def wait(self) -> None:
        """Return when the work is done. Raises what the work raised."""
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
            # Raise it in ``wait`` and in the loop, which logs it.
            self._error = error
            raise
        finally:
            if left > 0 or self._error is not None:
                self.finished = True
                if self._ended is not None and not self._ended.done():
                    self._ended.set_result(None)
