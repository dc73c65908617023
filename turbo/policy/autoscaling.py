"""Decides how many children an autoscaled worker has.

``master.children.autoscaler`` measures and carries out. The pool grows at once to as many children as there are tasks
to run, within its limits. It shrinks only to what was needed at the busiest moment of the last ``keepalive`` seconds:
so a child that is started again and again within that time is never ended between. Pure: the time is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: Seconds for which a child that is not needed is kept; Celery's default of AUTOSCALE_KEEPALIVE.
KEEPALIVE: Final = 30.0


class Autoscaling:
    """The limits of an autoscaled pool, and what it needed lately."""

    def __init__(self, most: int, least: int, keepalive: float = KEEPALIVE) -> None:
        """``keepalive`` in seconds. Raises ValueError for limits that no pool can keep."""
        self.most, self.least = checked(most, least)
        self._keepalive = keepalive
        #: Numbers of children, each with the last time at which so many were needed: times rise and numbers fall.
        self._needed: deque[tuple[float, int]] = deque()

    def set_limits(self, most: int, least: int) -> None:
        """Change the limits. Raises ValueError as the constructor does."""
        self.most, self.least = checked(most, least)

    def wanted(self, children: int, tasks: int, now: float) -> int:
        """Return how many children there should be.

        ``tasks`` run or wait for one of the present ``children``.
        """
        needed = min(max(tasks, self.least), self.most)
        while self._needed and self._needed[-1][1] <= needed:
            self._needed.pop()
        self._needed.append((now, needed))
        if needed >= children:
            return needed
        return min(children, max(self.least, min(self._peak(now), self.most)))

    def _peak(self, now: float) -> int:
        """Return the most children needed in the last ``keepalive`` seconds."""
        needed = self._needed
        while needed[0][0] <= now - self._keepalive:
            needed.popleft()
        return needed[0][1]


def checked(most: int, least: int) -> tuple[int, int]:
    """Return both limits. Raises ValueError for limits that no pool can keep."""
    if most < 1 or least < 0 or least > most:
        raise ValueError(f"a pool cannot have at most {most} and at least {least} children")
    return most, least
