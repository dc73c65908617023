"""Decides when a broker outage is logged: begin, rising intervals, end.

A pure rule over all links of a worker: times in, decisions out. ``amqp.outages`` acts on it, in the master. It must
never read a clock or log.
"""

from __future__ import annotations

from typing import Final

#: Seconds from the first line of an outage to the second; each further pause is twice as long.
FIRST_PAUSE: Final = 10.0
#: The longest pause between two lines, in seconds.
LONGEST_PAUSE: Final = 600.0
#: Seconds without errors after which a new error is a new outage. A broker that accepts and drops connections in turn
#: causes one outage and a bounded number of lines.
CALM: Final = 10.0


class Outage:
    """One kind of error of several links: which have it, when to log it again."""

    __slots__ = ("_began", "_down", "_ended", "_next", "_pause", "_reported")

    def __init__(self) -> None:
        self._down: set[str] = set()
        self._began = 0.0
        self._ended = float("-inf")
        self._next = 0.0
        self._pause = FIRST_PAUSE
        #: Whether the outage was logged, and its end not yet.
        self._reported = False

    @property
    def down(self) -> frozenset[str]:
        """The links that have the error now."""
        return frozenset(self._down)

    def begin(self, link: str, now: float) -> bool:
        """Record that a link has the error; return whether to log it now."""
        if not self._down and now - self._ended > CALM:
            self._began = self._next = now
            self._pause = FIRST_PAUSE
        self._down.add(link)
        if now < self._next:
            return False
        self._next = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._reported = True
        return True

    def end(self, link: str, now: float) -> float | None:
        """Record that a link has recovered.

        Return the outage's seconds when its end is to be logged, else None.
        """
        if link not in self._down:
            return None
        self._down.remove(link)
        if self._down:
            return None
        self._ended = now
        told, self._reported = self._reported, False
        return now - self._began if told else None

    def lasted(self, now: float) -> float:
        """Seconds since the outage began."""
        return now - self._began
