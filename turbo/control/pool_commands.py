"""The commands that change the number of children, and those that restart them.

Run on the master's loop for ``control.service``; ``resizing``, ``autoscaler`` and ``pool_restart`` of
``master.children`` carry them out. Replies are Celery's, word for word, because tools read them. They must never
interrupt a task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from turbo.control.slow_reply import SlowReply
from turbo.log_format import printable
from turbo.master.children.resizing import MOST_CHILDREN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from turbo.master.children.autoscaler import Autoscaler
    from turbo.master.children.pool_restart import PoolRestart
    from turbo.master.children.resizing import Resizing

    Reply = dict[str, str]

logger = logging.getLogger("celery.worker.control")

_AUTOSCALED: Final = "{} is not supported with autoscale. Adjust autoscale range instead."


class PoolCommands:
    """Answers the commands about the children of one worker."""

    def __init__(self, resizing: Resizing, autoscaler: Autoscaler | None, restart: PoolRestart | None) -> None:
        """``autoscaler``: None unless the worker is autoscaled.

        ``restart``: None unless pool restarts are allowed.
        """
        self._resizing = resizing
        self._restart = restart
        self._autoscaler = autoscaler
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
        if self._autoscaler is not None:
            return {"error": _AUTOSCALED.format("pool_grow")}
        count = _number(n)
        if self._size.count + count > MOST_CHILDREN:
            raise ValueError(f"a pool of {self._size.count + count} children is larger than {MOST_CHILDREN}")
        self._size.limit += count
        self._resizing.grow(count)
        logger.info("Pool grown by %d to %d children by remote.", count, self._size.count)
        return {"ok": "pool will grow"}

    def pool_shrink(self, n: int = 1, **_: Any) -> Reply:
        """Remove ``n`` children; a busy one leaves after its task.

        Raises ValueError unless at least one stays.
        """
        if self._autoscaler is not None:
            return {"error": _AUTOSCALED.format("pool_shrink")}
        count = _number(n)
        if count >= self._size.count:
            raise ValueError(f"Can't shrink pool. It has {self._size.count} children, and one must stay")
        self._size.limit -= count
        self._resizing.shrink(count)
        logger.info("Pool shrunk by %d to %d children by remote.", count, self._size.count)
        return {"ok": "pool will shrink"}

    def pool_restart(
        self, modules: Sequence[str] | None = None, reload: bool = False, reloader: object = None, **_: Any
    ) -> SlowReply:
        """Import the app and ``modules`` anew, then replace every child.

        Everything is imported anew, so ``reload`` changes nothing. The reply names the error if the import has failed
        before the client stops waiting. Raises ValueError if pool restarts are not enabled, or for wrong arguments.
        """
        if self._restart is None:
            raise ValueError("Pool restarts not enabled")
        names = _modules(modules)
        if reloader is not None:
            raise ValueError("a reloader cannot be used: another process imports the code")
        logger.info("Pool restart asked for by remote%s.", f", with {printable(', '.join(names))}" if names else "")
        reply = {"ok": "reload started"}
        return SlowReply(_after(self._restart.begin(names), reply), reply)

    def autoscale(self, max: int | None = None, min: int | None = None) -> Reply:
        """Change the limits of an autoscaled worker; None leaves one as it is.

        Raises ValueError.
        """
        if self._autoscaler is None:
            raise ValueError("Autoscale not enabled")
        for limit in (max, min):
            if limit is not None and limit != 0:
                _number(limit)
        most, least = self._autoscaler.update(max, min)
        logger.info("Autoscale now max=%d min=%d by remote.", most, least)
        return {"ok": f"autoscale now max={most} min={least}"}


async def _after(begun: Awaitable[None], reply: Reply) -> Reply:
    await begun
    return reply


def _modules(names: object) -> list[str]:
    """Return names of modules. Raises ValueError for anything but a list of them."""
    if names is None:
        return []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{names!r:.100} is not a list of modules")
    return list(names)


def _number(value: object) -> int:
    """Return a number of children.

    Raises ValueError for anything but an integer from 1 to the most allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_CHILDREN:
        raise ValueError(f"{value!r:.100} is not a number of children: give one from 1 to {MOST_CHILDREN}")
    return value
