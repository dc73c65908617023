"""The life of one child as the master sees it, as a table.

STARTING  requested from the spawner; not ready yet
SERVING   reported ready; gets work
RETIRING  gets no more work; leaves after the task it runs
KILLED    a fatal signal was sent; its pidfd has not fired yet
GONE      its pidfd fired
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class ChildState(IntEnum):
    """The states of a child."""

    STARTING = 0
    SERVING = 1
    RETIRING = 2
    KILLED = 3
    GONE = 4


TRANSITIONS: Final[tuple[frozenset[ChildState], ...]] = (
    frozenset({ChildState.SERVING, ChildState.RETIRING, ChildState.KILLED, ChildState.GONE}),
    frozenset({ChildState.RETIRING, ChildState.KILLED, ChildState.GONE}),
    frozenset({ChildState.KILLED, ChildState.GONE}),
    frozenset({ChildState.GONE}),
    frozenset(),
)


def check(old: ChildState, new: ChildState) -> ChildState:
    """Return ``new`` if the table allows the step; raise RuntimeError otherwise."""
    if new not in TRANSITIONS[old]:
        raise RuntimeError(f"a child cannot go from {old.name} to {new.name}")
    return new
