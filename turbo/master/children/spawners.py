"""The spawners of a worker: that of new children, and those of earlier code.

Runs in the master, between ``master.children.pool`` and the spawner's handle. Usually there is one spawner. While the
pool restarts there is a second, which has imported newer code; the former one ends when its last child has ended. This
module knows which spawner a child comes from. It must never decide what becomes of a child.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from turbo.observers import Observers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from turbo.spawner.handle import Spawner
    from turbo.spawner.messages import Report

logger = logging.getLogger(__name__)


class Spawners:
    """Passes requests to the right spawner, and every spawner's reports on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, first: Spawner) -> None:
        self._loop = loop
        #: The spawner of new children.
        self.current = first
        self._former: list[Spawner] = []
        self._ending: list[Spawner] = []
        #: By epoch, for every child that was requested and is not forgotten.
        self._made_by: dict[int, Spawner] = {}
        #: Called with each report of a spawner.
        self.on_report: Observers[Report] = Observers()
        #: Called with a spawner that has died, and the epochs of its children, dead or alive.
        self.on_lost: Observers[Spawner, list[int]] = Observers()

    def listen(self, spawner: Spawner) -> None:
        """Pass on the reports of a spawner from now on."""
        self._loop.add_reader(spawner.fileno(), self._readable, spawner)

    def request(self, epoch: int, index: int, fds: Sequence[int], of: Spawner | None = None) -> None:
        """Request a child, of the current spawner unless ``of`` is given.

        Raises BlockingIOError, SpawnerGone.
        """
        spawner = of or self.current
        spawner.spawn(epoch, index, fds)
        self._made_by[epoch] = spawner

    def is_former(self, epoch: int) -> bool:
        """Whether a child comes from a spawner that has a successor."""
        return self._made_by.get(epoch) in self._former

    def is_lost(self, epoch: int) -> bool:
        """Whether a child's spawner has died, so that this process reaps the child."""
        spawner = self._made_by.get(epoch)
        return spawner is not None and spawner.gone

    def reap(self, epoch: int, pid: int) -> int | None:
        """Return the status of an ended child whose spawner has died.

        None if the spawner will report it.
        """
        return self._made_by[epoch].reap_orphan(pid) if self.is_lost(epoch) else None

    def forget(self, epoch: int) -> None:
        """Note that a child has ended or was never made.

        A former spawner ends with its last child.
        """
        self._made_by.pop(epoch, None)
        self._end_idle()

    def take_over(self, spawner: Spawner) -> None:
        """Make new children by ``spawner``, which is listened to, from now on."""
        self._former.append(self.current)
        self.current = spawner
        self._end_idle()

    def end(self, spawner: Spawner) -> None:
        """End a spawner and the children that it still has."""
        if not spawner.gone:
            self._loop.remove_reader(spawner.fileno())
        spawner.release()
        self._ending.append(spawner)
        self._loop.add_reader(spawner.pidfd, self._ended, spawner)

    def close(self) -> None:
        """End all spawners and wait for them; the loop no longer runs."""
        for spawner in (*self._ending, *self._former, self.current):
            spawner.close()

    # -- inside ------------------------------------------------------------------------------------------

    def _readable(self, spawner: Spawner) -> None:
        for report in spawner.receive():
            self.on_report(report)
        if spawner.gone and spawner not in self._ending:
            self._loop.remove_reader(spawner.fileno())
            self.on_lost(spawner, [epoch for epoch, made_by in self._made_by.items() if made_by is spawner])
            self._end_idle()

    def _end_idle(self) -> None:
        for spawner in [each for each in self._former if each not in self._made_by.values()]:
            self._former.remove(spawner)
            self._adopt(spawner)
            self.end(spawner)

    def _adopt(self, spawner: Spawner) -> None:
        """Reap what tasks have started and left, in the place of a spawner that ends."""
        if spawner.gone:
            return
        try:
            for pid in spawner.adopted():
                with contextlib.suppress(ProcessLookupError):
                    pidfd = os.pidfd_open(pid)
                    self._loop.add_reader(pidfd, self._adopted_ended, pid, pidfd)
        except OSError as error:
            # It was killed just now, or no descriptor is free.
            logger.warning("Processes that tasks have left are not reaped when they end: %s", error)

    def _adopted_ended(self, pid: int, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    def _ended(self, spawner: Spawner) -> None:
        self._loop.remove_reader(spawner.pidfd)
        self._ending.remove(spawner)
        logger.info("The spawner with pid %d has ended (status %s)", spawner.pid, spawner.reap())
