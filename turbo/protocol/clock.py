"""A logical clock: a number that grows with every message sent and is never behind one received.

Used by whatever speaks with other workers: remote control and events. Pure; one process, one thread. It orders what
several workers say where their wall clocks differ (Lamport's rule).
"""

from __future__ import annotations

#: Beyond it, what a message claims is nonsense: a clock that jumped there could never be caught up with.
_LARGEST = 2**62


class LogicalClock:
    """One worker's clock."""

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def forward(self) -> int:
        """Something happens here, or is sent: count it, and return the new value."""
        self.value += 1
        return self.value

    def adjust(self, other: object) -> int:
        """A message arrived with this value; one that is no sensible number counts as 0. Returns the new value."""
        seen = other if isinstance(other, int) and not isinstance(other, bool) and 0 < other < _LARGEST else 0
        self.value = max(self.value, seen) + 1
        return self.value
