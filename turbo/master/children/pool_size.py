"""The number of children that the worker should have, and their slots.

Written by ``master.children.resizing`` alone. Read in the master by ``master.children.pool``, which keeps one child in
each slot, by ``master.children.recycling`` and by ``master.window``. It must never start or end a child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


class PoolSize:
    """The slots of the pool: each holds one child and gives it its index."""

    def __init__(self, limit: int, count: int | None = None) -> None:
        """``limit``: most children; ``count``: how many there are at first, if fewer."""
        #: The most children that there will be without another command. The prefetch window is made for this number.
        self.limit = limit
        self._slots = set(range(1, (limit if count is None else count) + 1))

    def __contains__(self, index: int) -> bool:
        return index in self._slots

    @property
    def count(self) -> int:
        """How many children there should be now."""
        return len(self._slots)

    @property
    def slots(self) -> list[int]:
        """The slots, in order."""
        return sorted(self._slots)

    def add(self, occupied: Collection[int]) -> int:
        """Add a slot; return its index, the lowest that is free.

        One in ``occupied`` is not free.
        """
        index = next(index for index in range(1, self.count + len(occupied) + 2)
                     if index not in self._slots and index not in occupied)  # fmt: skip
        self._slots.add(index)
        return index

    def drop(self, index: int) -> None:
        """Remove a slot: its child will not be replaced."""
        self._slots.discard(index)
