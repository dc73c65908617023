"""Ends tasks in threads at hard limits or when terminated; replaces the child.

Runs in the master, if children run tasks in threads. Before it: ``master.children.time_limits`` and
``master.delivery.revoking``, for which it takes the place of the pool. After it: ``master.children.dead_child``, which
settles the task as if its child had been killed for it, and ``master.children.pool``.

A thread cannot be killed. So the task is ended here, and its thread is left to itself: what it still reports is
dropped. Its child gets no more work, another child takes its place at once, and the tasks beside it run to their ends.
The child is killed when only such threads are left in it. It must never end a task whose outcome has been reported.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from turbo.master.children.dead_child import Cause
from turbo.policy.child_lifecycle import ChildState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.dead_child import DeadChild
    from turbo.master.children.pool import Pool
    from turbo.master.outcome.outcomes import Outcomes

logger = logging.getLogger(__name__)


class StuckThreads:
    """Ends tasks in threads; the interface is that of ``Pool`` for ending a task."""

    def __init__(self, pool: Pool, outcomes: Outcomes, dead_child: DeadChild) -> None:
        self._pool = pool
        self._outcomes = outcomes
        self._dead_child = dead_child
        outcomes.on_ended.add(self._ended)

    @property
    def children(self) -> Mapping[int, ChildProcess]:
        """All children, by epoch."""
        return self._pool.children

    def interrupt(self, child: ChildProcess, seq: int) -> None:
        """Raise the soft limit in the thread of ``seq``."""
        self._pool.interrupt(child, seq)

    def kill_running(
        self, child: ChildProcess, seq: int, reason: str, detail: object, _number: int = signal.SIGKILL
    ) -> bool:
        """End the task if it still runs; False if it has ended. The signal is not sent."""
        self._outcomes.look(child)
        delivery = child.parked.get(seq)
        if delivery is None or child.state is ChildState.KILLED:
            return False  # it has ended, or ends with its child
        # Those of one batch run in one thread.
        members = [each for each in delivery.together or (delivery,) if child.parked.get(each.seq) is each]
        for each in members:
            del child.parked[each.seq]
            child.abandoned.add(each.seq)
        logger.warning(
            "Child %d (pid %d) gets no more work and is replaced, since a task has been ended (%s) whose thread cannot "
            "be; %d other tasks run to their ends in it",
            child.index, child.pid, "hard time limit" if reason == "time_limit" else reason, len(child.parked),
        )  # fmt: skip
        self._dead_child.end_tasks(child, members, Cause(reason, detail, seq))
        self._replace(child)
        self._end_if_idle(child)
        return True

    def _replace(self, child: ChildProcess) -> None:
        """Start another child at once; the old one leaves after its tasks."""
        if child.serving and not child.replaced:
            child.replaced = True
            self._pool.spawn(child.index)
        self._pool.retire(child)

    def _ended(self, child: ChildProcess, _count: int) -> None:
        if child.abandoned:
            self._end_if_idle(child)

    def _end_if_idle(self, child: ChildProcess) -> None:
        """Kill a child in which nothing is left but the threads of ended tasks."""
        if child.abandoned and not child.assigned and not child.parked and not child.serving:
            self._pool.kill(child, "replaced", None)
