"""Collects what one turn of the loop produces, so that it leaves in one write.

Used in the master by ``amqp.consume.link`` for acknowledgements and by ``amqp.publish.publisher`` for publishes; anyone
else on the loop may use it the same way: call ``mark()`` as often as you like, ``flush`` runs once. It must never
await.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Seconds that something may wait for company, at most.
LINGER = 0.002
#: Least seconds between two flushes that are not urgent: at full load a write costs more than what it carries.
REST = 0.001


class WriteCoalescer:
    """Calls ``flush(False)`` once after each turn that marked it, and ``flush(True)`` within ``linger`` if
    asked.

    ``flush(last)`` returns whether something is held back; then it is called again with ``last`` true. With a
    ``rest``, what is marked less than that after the last flush waits for it, unless it is urgent.
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
        """Something is to be sent: at the end of this turn, or after the rest if that can wait."""
        if self._marked is not None:
            if not (urgent and self._resting):
                return
            self._marked.cancel()
        self._resting = not urgent and self._rest > 0 and monotonic() - self._flushed < self._rest
        if self._resting:
            self._marked = self._loop.call_later(self._rest, self._end_of_turn)
        else:
            self._marked = self._loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._marked = None
        self._resting = False
        if self._rest:
            self._flushed = monotonic()
        if self._flush(False) and self._timer is None:
            self._timer = self._loop.call_later(self._linger, self._lingered)

    def _lingered(self) -> None:
        self._timer = None
        self._flush(True)

    def now(self) -> None:
        """Send everything at once."""
        self.cancel()
        self._flush(True)

    def cancel(self) -> None:
        """Forget what was marked."""
        if self._marked is not None:
            self._marked.cancel()
            self._marked = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
