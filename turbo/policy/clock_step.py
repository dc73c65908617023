"""Detects that the wall clock was put forward or back.

Used by ``beat.scheduler``, in the beat process. The monotonic clock tells how much time has really gone by; where it
stands still while the machine is suspended, a suspend looks like a clock that was put forward. Numbers in, numbers out:
it must never read a clock.
"""

from __future__ import annotations

from typing import Final

#: Seconds of the smallest step; less is the two clocks' drift, or the time between reading them.
_LEAST: Final = 1.0


class ClockStep:
    """Compares two clocks from one look to the next."""

    def __init__(self) -> None:
        self._difference: float | None = None

    def look(self, wall: float, monotonic: float) -> float:
        """Return by how many seconds the wall clock was put forward since the last look.

        Negative if it was put back; 0 for less than a second.
        """
        before, self._difference = self._difference, wall - monotonic
        step = 0.0 if before is None else self._difference - before
        return step if abs(step) >= _LEAST else 0.0
