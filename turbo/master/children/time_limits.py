"""Enforces time limits from the master: signals or kills the child.

Runs in the master. ``policy.time_limits`` says which limits apply, ``child.time_limits`` raises the soft one in the
body. A STARTED record with deadlines arms them. The end of a task does not disarm them: when a deadline passes, the
control page says whether the same task still runs, and a stale entry is dropped. It must never hit another task.

Why the right task is hit. The child names the running sequence number in its control page before the body and clears
it after the outcome is written.

- *Soft:* the master writes that number into the page, then sends SIGUSR1; the handler raises only if that number is
  the one running.
- *Hard:* the master first takes back every unstarted record, so that the child can only sleep after the current task.
  Then it reads the number again, and kills through the pidfd only if it is unchanged. A task that ends in between has
  its outcome in the ring, which counts.

Only time counts during which the master ran (``policy.time_limits.RunningClock``). While limits are armed the timer
comes every second; when it comes much too late, everything was stopped, and all deadlines move by the time lost. The
children read the lost time in their pages, for the soft limits of tasks that run beside others. The deadlines in the
page stay as the child wrote them.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from typing import TYPE_CHECKING, Protocol

from turbo.policy.time_limits import RunningClock, on_arrival

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.observers import Observers

logger = logging.getLogger(__name__)

SOFT = 0
HARD = 1
SOFT_AGAIN = 2
#: Seconds after which a soft signal is repeated while the task runs: the body may have replaced our handler and
#: masked the first signal. The handler raises at most once per task.
_SOFT_REPEAT = 1.0
#: Nanoseconds between log lines about a stopped worker.
_WARN_EVERY_NS = 60_000_000_000


class Interrupter(Protocol):
    """The part of the pool that interrupts and kills children for their limits."""

    @property
    def children(self) -> Mapping[int, ChildProcess]:
        """All children, by epoch."""

    def interrupt(self, child: ChildProcess, seq: int) -> None:
        """Name ``seq`` in the child's page and send SIGUSR1."""

    def kill_running(self, child: ChildProcess, seq: int, reason: str, detail: object) -> bool:
        """Kill the child if it still runs ``seq``; False when that task has ended."""


class HardLimits:
    """A heap of deadlines over all children, and one timer for the nearest."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hooks: OutcomeHooks,
        interrupter: Interrupter,
        started: Observers[ChildProcess, int, int, int, float],
    ) -> None:
        """``interrupter`` carries the limits out.

        ``started`` is called with the arguments of :meth:`arm`.
        """
        self._loop = loop
        self._hooks = hooks
        self._interrupter = interrupter
        self._clock = RunningClock()
        self._warned_ns = 0
        #: (due on the running clock, order, kind, seq, hard limit in seconds, child)
        self._heap: list[tuple[int, int, int, int, float, ChildProcess]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        started.add(self.arm)

    def arm(self, child: ChildProcess, seq: int, soft_ns: int, hard_ns: int, limit: float) -> None:
        """Record the deadlines of a started task, as ``time.monotonic_ns`` values.

        0 is none. The child raises the soft limit of a task that runs beside others; it is only reported here.
        """
        now = time.monotonic_ns()
        self._look(now)
        if hard_ns:
            began = hard_ns - int(limit * 1e9)
        else:
            running = child.link.page.running()
            began = running.started_ns if running is not None and running.seq == seq else now
        shift = on_arrival(now - began) - self._clock.stopped
        if soft_ns:
            heapq.heappush(self._heap, (soft_ns + shift, next(self._order), SOFT, seq, limit, child))
        if hard_ns:
            heapq.heappush(self._heap, (hard_ns + shift, next(self._order), HARD, seq, limit, child))
        self._arm(now)

    def _look(self, now: int) -> None:
        """Count the time for which the worker was stopped, and pass it to the children."""
        lost = self._clock.look(now)
        if not lost:
            return
        for child in self._interrupter.children.values():
            child.link.page.add_stopped(lost)
        if now - self._warned_ns > _WARN_EVERY_NS or not self._warned_ns:
            self._warned_ns = now
            logger.warning("The worker did not run for %.1f s; it does not count this for time limits", lost / 1e9)

    def _arm(self, now: int) -> None:
        if not self._heap:
            return
        wait = self._clock.timer(self._heap[0][0], now)
        due = now + wait
        if self._timer is not None:
            if self._timer_ns <= due:
                return
            self._timer.cancel()
        self._timer_ns = due
        self._timer = self._loop.call_later(wait / 1e9, self._wake)
        self._clock.ask(now, wait)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic_ns()
        self._look(now)
        ran = now - self._clock.stopped
        heap = self._heap
        while heap:
            due, _, kind, seq, limit, child = heap[0]
            held = child.holding(seq) is not None
            if held and due > ran:
                break
            heapq.heappop(heap)
            if not held:
                continue
            if kind == HARD:
                self._hard(child, seq, limit)
            else:
                self._soft(child, seq, limit, ran, first=kind == SOFT)
        # Entries of ended tasks must not accumulate below a distant deadline.
        if len(heap) > 1024 and len(heap) > 4 * sum(entry[5].holding(entry[3]) is not None for entry in heap):
            self._heap = [entry for entry in heap if entry[5].holding(entry[3]) is not None]
            heapq.heapify(self._heap)
        self._arm(time.monotonic_ns())

    def _soft(self, child: ChildProcess, seq: int, limit: float, ran: int, *, first: bool) -> None:
        if (beside := child.parked.get(seq)) is not None:
            self._hooks.soft_limit(beside)  # its child raises the limit
            return
        running = child.link.page.running()
        if running is None or running.seq != seq or not running.in_body:
            return
        self._interrupter.interrupt(child, seq)
        if first:
            self._hooks.soft_limit(child.assigned[seq])
        again = ran + int(_SOFT_REPEAT * 1e9)
        heapq.heappush(self._heap, (again, next(self._order), SOFT_AGAIN, seq, limit, child))

    def _hard(self, child: ChildProcess, seq: int, limit: float) -> None:
        self._interrupter.kill_running(child, seq, "time_limit", int(limit) if limit.is_integer() else limit)
