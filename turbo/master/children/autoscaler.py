"""Scales the pool with the work, by ``policy.autoscaling``.

It measures the work and carries out what the policy says.

Runs in the master, if the worker is autoscaled. Before it: the dispatcher's queue and the children's tasks. After it:
``master.children.resizing``. Tasks that wait for their ETA need no child. Coroutines that run beside others need no
child of their own. It must never end a child that runs a task.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from turbo.master.children.pool import Pool
    from turbo.master.children.resizing import Resizing
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.policy.autoscaling import Autoscaling

logger = logging.getLogger("celery.worker.autoscale")

#: Seconds between measurements: new children are requested so soon after the work has come.
_INTERVAL: Final = 0.05


class Autoscaler:
    """Grows and shrinks the pool of one worker."""

    def __init__(self, policy: Autoscaling, resizing: Resizing, pool: Pool, dispatcher: Dispatcher) -> None:
        self._policy = policy
        self._resizing = resizing
        self._size = resizing.size
        self._pool = pool
        self._dispatcher = dispatcher

    async def run(self) -> None:
        """Measure and scale until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.scale(loop.time())
            await asyncio.sleep(_INTERVAL)

    def scale(self, now: float) -> None:
        """Scale the pool once."""
        missing = self._policy.wanted(self._size.count, self._tasks(), now) - self._size.count
        if missing > 0:
            logger.info("Scaling up %s processes.", missing)
            self._resizing.grow(missing)
        elif missing < 0 and (ended := self._resizing.shrink_idle(-missing)):
            logger.info("Scaling down %s processes.", ended)

    def update(self, most: int | None, least: int | None) -> tuple[int, int]:
        """Change the limits that are given; return both.

        Raises ValueError for limits that no pool can keep. What exceeds a lower maximum leaves: idle children at once,
        busy ones after their task.
        """
        policy, size = self._policy, self._size
        policy.set_limits(policy.most if most is None else most, policy.least if least is None else least)
        size.limit = policy.most
        if size.count > policy.most:
            self._resizing.shrink(size.count - policy.most)
        elif size.count < policy.least:
            self._resizing.grow(policy.least - size.count)
        return policy.most, policy.least

    def info(self) -> dict[str, int]:
        """Return limits and figures for ``inspect stats``, under Celery's names."""
        return {
            "max": self._policy.most,
            "min": self._policy.least,
            "current": self._size.count,
            "qty": self._tasks(),
        }

    def _tasks(self) -> int:
        """Return how many tasks run or wait for a child.

        The coroutines of one child count as one.
        """
        held = sum(len(child.assigned) or bool(child.parked) for child in self._pool.children.values())
        return self._dispatcher.waiting + held
