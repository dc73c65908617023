"""Tasks that must not run any more: discarded where they wait, ended where they run.

Runs in the master. Before it: ``control.task_commands``, by which somebody revokes, and ``master.delivery.intake``,
which asks about each message while anything is revoked at all. After it: the judge, which stores REVOKED, and the
settlement, which acknowledges; ``master.children.pool`` for a running task. ``policy.revoked`` remembers. A message
that a child has claimed a moment ago is looked at again until it is known whether the task began.

All that waits here is looked at, and discarded, in slices. While the looking takes more than one, nothing is handed
out, and what children had not claimed is queued again: what was revoked does not begin meanwhile.

A task is terminated by the signal that was asked for. A child that is still there after :data:`MERCY` is killed: a task
that holds the signal off must not keep its slot.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Final

from turbo.log_format import printable
from turbo.master.delivery.slices import SLICE, Slices
from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.pool import Pool
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.delivery.redelivery_guard import RedeliveryGuard
    from turbo.master.delivery.revoked_tasks import RevokedTasks
    from turbo.master.outcome.settlement import Settlement

logger = logging.getLogger("celery.worker.request")

#: Seconds that a terminated task may hold its signal off.
KILL_AFTER_S: Final = 5.0
#: Seconds between looks at messages that a child is just taking on.
_LOOK_AGAIN: Final = 0.01
#: Messages discarded in one slice; each takes about a tenth of a millisecond.
_AT_ONCE: Final = 100
#: Ids noted in one slice.
_IDS_AT_ONCE: Final = 2_000
#: More of them waiting than this are looked at in several slices.
_FEW: Final = 500
#: Why the dispatcher is paused meanwhile.
_REASON: Final = "revoking"
_WAITING: Final = frozenset({State.READY, State.SUSPECT, State.HELD, State.DISPATCHED})


class Sweep:
    """One way through all that waits here, which goes on by itself."""

    def __init__(self) -> None:
        #: The ids that were asked for and found; complete when it has ended.
        self.found: list[str] = []
        self._slices: Slices | None = None

    def begin(self, slices: Slices) -> Sweep:
        """Note what carries it on."""
        self._slices = slices
        return self

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self._slices is not None and self._slices.finished

    async def wait(self) -> list[str]:
        """Return the ids that were found, when it has ended."""
        if self._slices is not None:
            await self._slices.wait()
        return self.found


class Revoking:
    """Carries revocations out. ``revoked`` is written by this object alone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        revoked_tasks: RevokedTasks,
        ledger: Ledger,
        dispatcher: Dispatcher,
        shelf: EtaShelf,
        redelivery_guard: RedeliveryGuard,
        pool: Pool,
        settlement: Settlement,
    ) -> None:
        self._loop = loop
        self._revoked_tasks = revoked_tasks
        self.revoked = revoked_tasks.revoked
        #: Returns the id of a delivery's task.
        self.id_of = revoked_tasks.id_of
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._shelf = shelf
        self._redelivery_guard = redelivery_guard
        self._pool = pool
        self._settlement = settlement
        #: Deliveries that a child may have begun, and the signal to end them by; None only keeps them from beginning.
        self._claimed: dict[Delivery, int | None] = {}
        #: Revoked deliveries that were taken out of wherever they waited, to be discarded in the next slices.
        self.discarding: set[Delivery] = set()
        #: Sweeps that keep the dispatcher from handing out.
        self._holding = 0

    # -- asked by others ---------------------------------------------------------------------------------

    def revoke(self, task_ids: Iterable[str]) -> Sweep:
        """Remember these ids and discard what waits here of them; the sweep finds those that waited."""
        wanted = task_ids if isinstance(task_ids, set) else set(task_ids)
        return self._begin(None, wanted)

    def revoke_stamps(self, stamps: dict[str, object]) -> Sweep:
        """The same by stamped headers. Raises ValueError when too many are revoked."""
        self.revoked.add_stamps(stamps)
        return self._begin(None, set())

    def terminate(self, task_ids: Iterable[str], number: int) -> Sweep:
        """Revoke, and end the tasks of these ids that run here by the signal ``number``; the sweep finds both."""
        wanted = task_ids if isinstance(task_ids, set) else set(task_ids)
        sweep = self._begin(number, wanted)
        for child, seq, delivery in list(self.running()):
            if (name := self.id_of(delivery)) in wanted:
                sweep.found.append(name)
                self._end(child, seq, name, number)
        return sweep

    def terminate_stamped(self, stamps: dict[str, object], number: int) -> dict[str, list[object]]:
        """End the running tasks that carry a stamp revoked before; the stamps by which they were found."""
        found: dict[str, list[object]] = {}
        for child, seq, delivery in list(self.running()):
            stamp = self._revoked_tasks.stamp(delivery) or {}
            for name, value in stamp.items():
                if name in stamps:
                    found.setdefault(name, []).append(value)
                    self._end(child, seq, self.id_of(delivery), number)
        return found

    def running(self) -> Iterator[tuple[ChildProcess, int, Delivery]]:
        """Every task that a child has begun: the child, the record's number, the delivery."""
        for child in self._pool.children.values():
            for seq, delivery in (*child.assigned.items(), *child.parked.items()):
                if delivery.state is State.STARTED:
                    yield child, seq, delivery

    # -- inside ------------------------------------------------------------------------------------------

    def _begin(self, number: int | None, wanted: set[str]) -> Sweep:
        sweep = Sweep()
        return sweep.begin(Slices(self._loop, self._sweep(sweep.found, number, wanted)))

    def _sweep(self, found: list[str], number: int | None, wanted: set[str]) -> Iterator[int]:
        """Revoke ``wanted``, discard everything revoked that waits here, and note those of ``wanted`` among it."""
        held = len(self._ledger) > _FEW or len(wanted) > _IDS_AT_ONCE
        if held:
            self._hold()
        try:
            # Of more than are remembered the last ones are.
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
            # It was nowhere but here: when its connection was lost meanwhile, nobody could end it.
            if self._settlement.still_ours(delivery):
                self._revoked_tasks.discard(delivery)

    def _hold(self) -> None:
        """Let nothing begin until the sweep has seen everything."""
        self._holding += 1
        self._dispatcher.pause(_REASON)
        self._dispatcher.resubmit(self._dispatcher.withdraw())

    def _release(self) -> None:
        self._holding -= 1
        if not self._holding:
            self._dispatcher.resume(_REASON)

    def _pick(self, hits: set[Delivery]) -> list[Delivery]:
        """Take these out of wherever they wait; what a child has claimed stays."""
        if not hits:
            return []
        picked = self._shelf.take_out(hits) + self._redelivery_guard.take_out(hits)
        if any(delivery.state is not State.HELD for delivery in hits):
            others = self._dispatcher.withdraw()
            self._dispatcher.resubmit(delivery for delivery in others if delivery not in hits)
            picked += [delivery for delivery in others if delivery in hits]
            self._dispatcher.balance()
        return picked

    def _watch(self, delivery: Delivery, number: int | None) -> None:
        if not self._claimed:
            self._loop.call_later(_LOOK_AGAIN, self._look_again)
        self._claimed[delivery] = number

    def _look_again(self) -> None:
        """What a child had claimed has begun, has come back, or is still being taken on."""
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
            # The signal of the soft limit, as in Celery's pool: the task is asked by SoftTimeLimitExceeded.
            self._pool.interrupt(child, seq)
            return
        if seq in child.parked:
            child.limited = seq
        child.link.page.condemn(True)
        if self._pool.kill_running(child, seq, "terminated", number, number):
            self._loop.call_later(KILL_AFTER_S, self._pool.kill, child, "terminated", number)
        else:
            child.link.page.condemn(False)
