"""Joins the output of one loop iteration into a single write.

Used in the master by ``amqp.consume.link`` for acknowledgements and by ``amqp.publish.publisher`` for messages. Callers
on the loop call ``mark()`` any number of times, and ``flush`` runs once. It must never await.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Most seconds that output waits for more to join it.
LINGER = 0.002
#: Least seconds between two flushes that are not urgent: under full load the write itself is the main cost.
REST = 0.001


class WriteCoalescer:
    """Calls ``flush(False)`` after each iteration of the loop with a ``mark``.

    ``flush(last)`` returns whether it held something back; then ``flush(True)`` follows after ``linger`` seconds. With
    ``rest``, output that is not urgent and is marked less than ``rest`` seconds after a flush waits another ``rest``.
    """

    __slots__ = ("_flush", "_flushed", "_linger", "_loop", "_marked", "_rest", "_resting", "_timer")

    def __init__(
        self,
        flush: Callable[[bool], bool],
        *,
        loop: asyncio.AbstractEventLoop,
        linger: float = LINGER,
        rest: float = 0.0,
    ) -> None:
        self._flush = flush
        self._loop = loop
        self._linger = linger
        self._rest = rest
        self._resting = False
        self._flushed = 0.0
        self._marked: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def mark(self, *, urgent: bool = False) -> None:
        """Request a flush after this iteration, or, if not urgent, after the rest."""
        if self._marked is not None:
            if not (urgent and self._resting):
                return
            # Urgent output ends the rest: flush after this iteration instead.
            self._marked.cancel()
        self._resting = not urgent and self._rest > 0 and monotonic() - self._flushed < self._rest
        if self._resting:
            self._marked = self._loop.call_later(self._rest, self._after_iteration)
        else:
            self._marked = self._loop.call_soon(self._after_iteration)

    def _after_iteration(self) -> None:
        self._marked = None
        self._resting = False
        if self._rest:
            self._flushed = monotonic()
        if self._flush(False) and self._timer is None:
            self._timer = self._loop.call_later(self._linger, self._flush_late)

    def _flush_late(self) -> None:
        self._timer = None
        self._flush(True)

    def now(self) -> None:
        """Flush everything immediately."""
        self.cancel()
        self._flush(True)

    def cancel(self) -> None:
        """Cancel the requested flushes."""
        if self._marked is not None:
            self._marked.cancel()
            self._marked = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
