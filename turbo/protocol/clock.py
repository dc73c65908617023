"""A Lamport clock: a counter that orders the messages of several workers.

Used by remote control and events, in one thread of the master. It grows with every
message sent and is never behind a received one; wall clocks may differ. Pure.
"""

from __future__ import annotations

#: A message's value above this is ignored: no other clock could ever catch up with one that jumped there.
_LARGEST = 2**62


class LogicalClock:
    """The clock of one worker."""

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def forward(self, count: int = 1) -> int:
        """Count local events or sent messages; return the new value."""
        self.value += count
        return self.value

    def adjust(self, other: object) -> int:
        """Advance past the value of a received message; an invalid value counts as 0.

        Returns the new value.
        """
        seen = other if isinstance(other, int) and not isinstance(other, bool) and 0 < other < _LARGEST else 0
        self.value = max(self.value, seen) + 1
        return self.value
