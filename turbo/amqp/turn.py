"""Collects what one turn of the loop produces, so that it leaves in one write.

Used in the master by ``amqp.link`` for acknowledgements and by ``amqp.outbox`` for publishes; anyone else
on the loop may use it the same way: call ``mark()`` as often as you like, ``flush`` runs once. It must
never await.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Seconds that something may wait for company, at most.
LINGER = 0.002


class TurnEnd:
    """Calls ``flush(False)`` once after each turn that marked it, and ``flush(True)`` within ``linger`` if
    asked.

    ``flush(last)`` returns whether something is held back; then it is called again with ``last`` true.
    """

    __slots__ = ("_flush", "_linger", "_loop", "_marked", "_timer")

    def __init__(
        self, flush: Callable[[bool], bool], *, loop: asyncio.AbstractEventLoop, linger: float = LINGER
    ) -> None:
        self._flush = flush
        self._loop = loop
        self._linger = linger
        self._marked: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def mark(self) -> None:
        """Something is to be sent at the end of this turn."""
        if self._marked is None:
            self._marked = self._loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._marked = None
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
