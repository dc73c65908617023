"""Changes the number of children while the worker runs.

Runs in the master. Before it: ``control.pool_commands`` and ``master.children.autoscaler``. After it:
``master.children.pool``, which starts and retires children. A child that runs a task leaves after it. It must never
interrupt a task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.pool import Pool
    from turbo.master.children.pool_size import PoolSize

logger = logging.getLogger("turbo.worker")

#: The most children that a command may ask for.
MOST_CHILDREN: Final = 1_000


class Resizing:
    """Adds and removes slots of the pool."""

    def __init__(self, pool: Pool, size: PoolSize) -> None:
        self._pool = pool
        self.size = size

    def grow(self, count: int) -> None:
        """Start ``count`` more children."""
        for _ in range(count):
            occupied = {child.index for child in self._pool.children.values()}
            self._pool.spawn(self.size.add(occupied))

    def shrink(self, count: int) -> None:
        """Remove ``count`` slots: of idle, then starting, then working children."""
        children = self._by_slot()
        order = sorted(self.size.slots, key=lambda index: (_rank(children.get(index, [])), -index))
        self._remove(order[:count], children)

    def shrink_idle(self, count: int) -> int:
        """Remove the slots of at most ``count`` idle children; return how many."""
        children = self._by_slot()
        idle = [index for index in reversed(self.size.slots) if _rank(children.get(index, [])) == _IDLE]
        self._remove(idle[:count], children)
        return len(idle[:count])

    # -- inside ------------------------------------------------------------------------------------------

    def _by_slot(self) -> dict[int, list[ChildProcess]]:
        """Return the living children by slot: one, or two while one replaces the other."""
        found: dict[int, list[ChildProcess]] = {}
        for child in self._pool.children.values():
            found.setdefault(child.index, []).append(child)
        return found

    def _remove(self, slots: list[int], children: dict[int, list[ChildProcess]]) -> None:
        # All slots go before the first child is retired: retiring gives its work to children that stay.
        for index in slots:
            self.size.drop(index)
        for index in slots:
            for child in children.get(index, []):
                self._pool.retire(child)


_EMPTY, _IDLE, _STARTING, _BUSY = range(4)


def _rank(children: list[ChildProcess]) -> int:
    """Return what the child of a slot does.

    A slot waits without a child after its child could not be started.
    """
    if not children:
        return _EMPTY
    if any(child.assigned or child.parked for child in children):
        return _BUSY
    return _IDLE if any(child.serving for child in children) else _STARTING
