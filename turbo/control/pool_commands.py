"""The commands that change the number of children, and those that restart them.

Run on the master's loop for ``control.service``; ``master.children.resizing`` carries them out. Replies are Celery's,
word for word, because tools read them. They must never interrupt a task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from turbo.master.children.resizing import MOST_CHILDREN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.master.children.resizing import Resizing

    Reply = dict[str, str]

logger = logging.getLogger("celery.worker.control")


class PoolCommands:
    """Answers the commands about the children of one worker."""

    def __init__(self, resizing: Resizing) -> None:
        self._resizing = resizing
        self._size = resizing.size

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the commands by name."""
        return {
            "pool_grow": self.pool_grow,
            "pool_shrink": self.pool_shrink,
            "pool_restart": self.pool_restart,
            "autoscale": self.autoscale,
        }

    def pool_grow(self, n: int = 1, **_: Any) -> Reply:
        """Start ``n`` more children. Raises ValueError for a wrong number."""
        count = _number(n)
        if self._size.count + count > MOST_CHILDREN:
            raise ValueError(f"a pool of {self._size.count + count} children is larger than {MOST_CHILDREN}")
        self._size.limit += count
        self._resizing.grow(count)
        logger.info("Pool grown by %d to %d children by remote.", count, self._size.count)
        return {"ok": "pool will grow"}

    def pool_shrink(self, n: int = 1, **_: Any) -> Reply:
        """Remove ``n`` children; a busy one leaves after its task. Raises ValueError unless at least one stays."""
        count = _number(n)
        if count >= self._size.count:
            raise ValueError(f"Can't shrink pool. It has {self._size.count} children, and one must stay")
        self._size.limit -= count
        self._resizing.shrink(count)
        logger.info("Pool shrunk by %d to %d children by remote.", count, self._size.count)
        return {"ok": "pool will shrink"}

    def pool_restart(self, **_: Any) -> None:
        """Reply as Celery does with default settings."""
        raise ValueError("Pool restarts not enabled")

    def autoscale(self, **_: Any) -> None:
        """Reply as Celery does without --autoscale."""
        raise ValueError("Autoscale not enabled")


def _number(value: object) -> int:
    """Return a number of children. Raises ValueError for anything but a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r:.100} is not a number of children")
    return value
