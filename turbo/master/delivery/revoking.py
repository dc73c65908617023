"""Revokes tasks: discards those that wait here, and ends those that run.

Runs in the master. Before it: ``control.task_commands``, the remote-control commands. After it:
``master.delivery.revoked_tasks``, which discards a message, and ``master.children.pool``, which ends a running task.
``policy.revoked`` remembers what was revoked. A message that a child has just claimed is checked again until it is
known whether its task has begun. It must never discard a message that a child may run.

The waiting deliveries are checked and discarded in slices. When the check needs more than one slice, the dispatcher
hands nothing out, and takes back what children have not claimed: so no revoked task begins during the check.

A task is terminated by the signal that was asked for. If its child still runs after :data:`KILL_AFTER_S` seconds, the
child is killed: a task that ignores the signal must not keep its slot. A task in a thread gets no signal;
``master.children.stuck_threads`` ends it.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Final

from turbo.log_format import printable
from turbo.master.delivery import units
from turbo.master.delivery.slices import SLICE, Slices
from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.pool import Pool
    from turbo.master.children.stuck_threads import StuckThreads
    from turbo.master.delivery.batches import Batches
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.delivery.paused_queues import PausedQueues
    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.delivery.redelivery_guard import RedeliveryGuard
    from turbo.master.delivery.revoked_tasks import RevokedTasks
    from turbo.master.outcome.settlement import Settlement

logger = logging.getLogger("celery.worker.request")

#: Seconds after the signal at which the child of a terminated task is killed.
KILL_AFTER_S: Final = 5.0
#: Seconds between checks of messages that a child has just claimed.
_LOOK_AGAIN: Final = 0.01
#: Messages discarded in one slice; one takes about a tenth of a millisecond.
_AT_ONCE: Final = 100
#: Ids noted in one slice.
_IDS_AT_ONCE: Final = 2_000
#: Up to so many waiting messages are checked in one slice.
_FEW: Final = 500
#: The dispatcher's reason to pause during a check.
_REASON: Final = "revoking"
_WAITING: Final = frozenset({State.READY, State.SUSPECT, State.HELD, State.DISPATCHED})


class Sweep:
    """One check of all waiting deliveries; it runs on in slices of the loop."""

    def __init__(self) -> None:
        #: The requested ids that were found; complete when the check has ended.
        self.found: list[str] = []
        self._slices: Slices | None = None

    def begin(self, slices: Slices) -> Sweep:
        """Set the slices that run the check; return self."""
        self._slices = slices
        return self

    @property
    def finished(self) -> bool:
        """Whether the check has ended."""
        return self._slices is not None and self._slices.finished

    async def wait(self) -> list[str]:
        """Wait for the end of the check; return the ids that were found."""
        if self._slices is not None:
            await self._slices.wait()
        return self.found


class Revoking:
    """Carries out revocations. Only this object writes ``revoked``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        revoked_tasks: RevokedTasks,
        ledger: Ledger,
        dispatcher: Dispatcher,
        shelf: EtaShelf,
        rate_limits: RateLimits,
        batches: Batches,
        redelivery_guard: RedeliveryGuard,
        paused_queues: PausedQueues,
        pool: Pool,
        settlement: Settlement,
        stuck_threads: StuckThreads | None = None,
    ) -> None:
        """``stuck_threads`` ends tasks that run in threads, if children have threads."""
        self._loop = loop
        self._revoked_tasks = revoked_tasks
        self.revoked = revoked_tasks.revoked
        #: Returns the id of a delivery's task.
        self.id_of = revoked_tasks.id_of
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._shelf = shelf
        self._rate_limits = rate_limits
        self._batches = batches
        self._redelivery_guard = redelivery_guard
        self._paused_queues = paused_queues
        self._pool = pool
        self._settlement = settlement
        self._stuck_threads = stuck_threads
        #: Claimed deliveries whose task may have begun, with the signal that is to end it; None: let a begun task run.
        self._claimed: dict[Delivery, int | None] = {}
        #: Revoked deliveries that wait nowhere any more and are discarded in the next slices.
        self.discarding: set[Delivery] = set()
        #: Running sweeps that have paused the dispatcher.
        self._holding = 0

    # -- asked by others ---------------------------------------------------------------------------------

    def revoke(self, task_ids: Iterable[str]) -> Sweep:
        """Revoke these ids and discard their waiting deliveries.

        The sweep finds the ids that waited.
        """
        wanted = task_ids if isinstance(task_ids, set) else set(task_ids)
        return self._begin(None, wanted)

    def revoke_stamps(self, stamps: dict[str, object]) -> Sweep:
        """Revoke by stamped headers. Raises ValueError when too many are revoked."""
        self.revoked.add_stamps(stamps)
        return self._begin(None, set())

    def terminate(self, task_ids: Iterable[str], number: int) -> Sweep:
        """Revoke these ids and send the signal ``number`` to their running tasks.

        The sweep finds both kinds.
        """
        wanted = task_ids if isinstance(task_ids, set) else set(task_ids)
        sweep = self._begin(number, wanted)
        for child, seq, delivery in list(self.running()):
            if (name := self.id_of(delivery)) in wanted:
                sweep.found.append(name)
                self._end(child, seq, name, number)
        return sweep

    def terminate_stamped(self, stamps: dict[str, object], number: int) -> dict[str, list[object]]:
        """End the running tasks that carry a revoked stamp.

        Return the stamps by which they were found.
        """
        found: dict[str, list[object]] = {}
        for child, seq, delivery in list(self.running()):
            stamp = self._revoked_tasks.stamp(delivery) or {}
            for name, value in stamp.items():
                if name in stamps:
                    found.setdefault(name, []).append(value)
                    self._end(child, seq, self.id_of(delivery), number)
        return found

    def running(self) -> Iterator[tuple[ChildProcess, int, Delivery]]:
        """Yield every begun task: its child, the record's number, the delivery."""
        for child in self._pool.children.values():
            for seq, delivery in (*child.assigned.items(), *child.parked.items()):
                if delivery.state is State.STARTED:
                    yield child, seq, delivery

    # -- inside ------------------------------------------------------------------------------------------

    def _begin(self, number: int | None, wanted: set[str]) -> Sweep:
        sweep = Sweep()
        return sweep.begin(Slices(self._loop, self._sweep(sweep.found, number, wanted)))

    def _sweep(self, found: list[str], number: int | None, wanted: set[str]) -> Iterator[int]:
        """Revoke ``wanted`` and discard every revoked delivery that waits.

        Note those of ``wanted`` in ``found``.
        """
        held = len(self._ledger) > _FEW or len(wanted) > _IDS_AT_ONCE
        if held:
            self._hold()
        try:
            # When there are more ids than can be remembered, the last ones are.
            ids, now = list(wanted)[-self.revoked.most :], self._loop.time()
            for start in range(0, len(ids), _IDS_AT_ONCE):
                self.revoked.add(ids[start : start + _IDS_AT_ONCE], now)
                yield SLICE if held else 0
            waiting, hits = list(self._ledger), []
            for delivery in waiting:
                if delivery.state in _WAITING and (
                    self._revoked_tasks.includes(delivery) or self.id_of(delivery) in wanted
                ):
                    hits.append(delivery)
                    if (name := self.id_of(delivery)) in wanted:
                        found.append(name)
                yield 1
            picked = self._pick(set(hits))
            self.discarding.update(picked)
            for delivery in hits:
                if delivery.state is State.DISPATCHED:
                    self._watch(delivery, number if self.id_of(delivery) in wanted else None)
        finally:
            if held:
                self._release()
        for count, delivery in enumerate(picked):
            if count and count % _AT_ONCE == 0:
                yield SLICE
            self.discarding.discard(delivery)
            # It waited only in this sweep: if its connection was lost meanwhile, this is the place to end it.
            if self._settlement.keep_or_void(delivery):
                self._revoked_tasks.discard(delivery)

    def _hold(self) -> None:
        """Pause the dispatcher until the sweep has checked everything.

        Take back what no child has claimed.
        """
        self._holding += 1
        self._dispatcher.pause(_REASON)
        self._dispatcher.resubmit(self._dispatcher.withdraw())

    def _release(self) -> None:
        self._holding -= 1
        if not self._holding:
            self._dispatcher.resume(_REASON)

    def _pick(self, hits: set[Delivery]) -> list[Delivery]:
        """Take these deliveries from wherever they wait and return them.

        What a child has claimed stays with it.
        """
        if not hits:
            return []
        picked = self._shelf.take_out(hits) + self._rate_limits.take_out(hits) + self._redelivery_guard.take_out(hits)
        picked += self._batches.take_out(hits) + self._paused_queues.take_out(hits)
        if any(delivery.state is not State.HELD for delivery in hits):
            found, others = units.split(self._dispatcher.withdraw(), hits)
            self._dispatcher.resubmit(others)
            picked += found
            self._dispatcher.balance()
        return picked

    def _watch(self, delivery: Delivery, number: int | None) -> None:
        if not self._claimed:
            self._loop.call_later(_LOOK_AGAIN, self._look_again)
        self._claimed[delivery] = number

    def _look_again(self) -> None:
        """Check claimed deliveries again: end begun ones, discard returned ones.

        Keep watching the others.
        """
        claimed, self._claimed = self._claimed, {}
        for delivery, number in claimed.items():
            if delivery.state is State.DISPATCHED:
                self._watch(delivery, number)
        for picked in self._pick({delivery for delivery in claimed if delivery.state in _WAITING}):
            self._revoked_tasks.discard(picked)
        for child, seq, running in list(self.running()):
            if (signum := claimed.get(running)) is not None:
                self._end(child, seq, self.id_of(running), signum)

    def _end(self, child: ChildProcess, seq: int, name: str, number: int) -> None:
        logger.info("Terminating %s (%s)", printable(name), number)
        if number == signal.SIGUSR1:
            # As in Celery's pool, this is the signal of the soft limit: it raises SoftTimeLimitExceeded in the task.
            self._pool.interrupt(child, seq)
            return
        if self._stuck_threads is not None and seq in child.parked:
            self._stuck_threads.kill_running(child, seq, "terminated", number)
            return
        running = child.holding(seq)
        if seq in child.parked or (running is not None and running.together):
            child.limited = seq
        child.link.page.condemn(True)
        if self._pool.kill_running(child, seq, "terminated", number, number):
            self._loop.call_later(KILL_AFTER_S, self._pool.kill, child, "terminated", number)
        else:
            child.link.page.condemn(False)
