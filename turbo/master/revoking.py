"""Tasks that must not run any more: discarded where they wait, ended where they run.

Runs in the master. Before it: ``control.task_commands``, by which somebody revokes, and ``master.intake``, which asks
about each message while anything is revoked at all. After it: the judge, which stores REVOKED, and the settlement,
which acknowledges; ``master.pool`` for a running task. ``policy.revoked`` remembers. A message that a child has
claimed a moment ago is looked at again until it is known whether the task began.

A task is terminated by the signal that was asked for. A child that is still there after :data:`MERCY` is killed: a task
that holds the signal off must not keep its slot.
"""

from __future__ import annotations

import functools
import logging
import signal
from typing import TYPE_CHECKING, Final

from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending
from turbo.protocol.peek import task_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

    from turbo.master.child_process import ChildProcess
    from turbo.master.dispatcher import Dispatcher
    from turbo.master.eta import EtaShelf
    from turbo.master.inflight import Delivery, Ledger
    from turbo.master.judge import Judge
    from turbo.master.outcomes import Outcomes
    from turbo.master.pool import Pool
    from turbo.master.settlement import Settlement
    from turbo.master.twins import Twins
    from turbo.master.verdicts import Verdicts
    from turbo.policy.revoked import Revoked

logger = logging.getLogger("celery.worker.request")

#: Seconds that a terminated task may hold its signal off.
MERCY: Final = 5.0
#: Seconds between looks at messages that a child is just taking on.
_LOOK_AGAIN: Final = 0.01
_WAITING: Final = frozenset({State.READY, State.HELD, State.DISPATCHED})


class Revoking:
    """Carries revocations out. ``revoked`` is written by this object alone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        revoked: Revoked,
        ledger: Ledger,
        dispatcher: Dispatcher,
        shelf: EtaShelf,
        twins: Twins,
        pool: Pool,
        settlement: Settlement,
        outcomes: Outcomes,
        verdicts: Verdicts,
        judge: Judge,
    ) -> None:
        self._loop = loop
        self.revoked = revoked
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._shelf = shelf
        self._twins = twins
        self._pool = pool
        self._settlement = settlement
        self._outcomes = outcomes
        self._verdicts = verdicts
        self._judge = judge
        #: Deliveries that a child may have begun, and the signal to end them by; None only keeps them from beginning.
        self._claimed: dict[Delivery, int | None] = {}

    # -- asked by others ---------------------------------------------------------------------------------

    def refuses(self, delivery: Delivery) -> bool:
        """Discard a message that no child has, if its task was revoked; whether it was."""
        if not self.revoked.any or not self._is_revoked(delivery):
            return False
        self._discard(delivery)
        return True

    def revoke(self, task_ids: Iterable[str]) -> list[str]:
        """Remember these ids and discard what waits here of them; the ids found waiting."""
        wanted = set(task_ids)
        self.revoked.add(wanted, self._loop.time())
        return self._sweep(None, wanted)

    def revoke_stamps(self, stamps: dict[str, object]) -> None:
        """The same by stamped headers. Raises ValueError when too many are revoked."""
        self.revoked.add_stamps(stamps)
        self._sweep(None)

    def terminate(self, task_ids: Iterable[str], number: int) -> list[str]:
        """Revoke, and end the tasks of these ids that run here by the signal ``number``; the ids found here."""
        wanted = set(task_ids)
        self.revoked.add(wanted, self._loop.time())
        found = self._sweep(number, wanted)
        for child, seq, delivery in list(self.running()):
            if (name := self.id_of(delivery)) in wanted:
                found.append(name)
                self._end(child, seq, name, number)
        return found

    def terminate_stamped(self, stamps: dict[str, object], number: int) -> dict[str, list[object]]:
        """End the running tasks that carry a stamp revoked before; the stamps by which they were found."""
        found: dict[str, list[object]] = {}
        for child, seq, delivery in list(self.running()):
            stamp = self._stamp(delivery) or {}
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

    def id_of(self, delivery: Delivery) -> str:
        """The id of a delivery's task; empty when it has none that can be read."""
        raw = task_id(delivery.header)
        if raw is not None:
            return raw.decode("utf-8", "surrogateescape")
        message = self._verdicts.message(delivery)
        return message.id if message is not None else ""

    # -- inside ------------------------------------------------------------------------------------------

    def _is_revoked(self, delivery: Delivery) -> bool:
        return self.id_of(delivery) in self.revoked or self._stamp(delivery) is not None

    def _stamp(self, delivery: Delivery) -> dict[str, object] | None:
        if not self.revoked.has_stamps:
            return None
        message = self._verdicts.message(delivery)
        return None if message is None else self.revoked.stamp_of(message.stamped_headers, message.stamps)

    def _discard(self, delivery: Delivery) -> None:
        if delivery.state is State.HELD:
            delivery.move(State.READY)
        message = self._verdicts.message(delivery)
        stamp = self._stamp(delivery)
        logger.info(
            "Discarding revoked task: %s%s",
            message.label if message is not None else "(unreadable)[?]",
            f" (revoked by header: {stamp!r:.200})" if stamp else "",
        )
        self._outcomes.endings[Ending.REVOKED] += 1
        self._judge.revoked(delivery, "revoked", functools.partial(self._settlement.finish, delivery))

    def _sweep(self, number: int | None, wanted: set[str] | None = None) -> list[str]:
        """Discard everything revoked that waits here; return the ids of ``wanted`` that were found waiting."""
        hits = {d for d in self._ledger if d.state in _WAITING and self._is_revoked(d)}
        found = [name for delivery in hits if (name := self.id_of(delivery)) in (wanted or ())]
        for delivery in self._pick(hits):
            self._discard(delivery)
        for delivery in hits:
            if delivery.state is State.DISPATCHED:
                self._watch(delivery, number if wanted and self.id_of(delivery) in wanted else None)
        return found

    def _pick(self, hits: set[Delivery]) -> list[Delivery]:
        """Take these out of wherever they wait; what a child has claimed stays."""
        if not hits:
            return []
        picked = self._shelf.take_out(hits) + self._twins.take_out(hits)
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
            elif delivery.state in _WAITING:
                for picked in self._pick({delivery}):
                    self._discard(picked)
            elif delivery.state is State.STARTED and number is not None:
                for child, seq, running in list(self.running()):
                    if running is delivery:
                        self._end(child, seq, self.id_of(delivery), number)

    def _end(self, child: ChildProcess, seq: int, name: str, number: int) -> None:
        logger.info("Terminating %s (%s)", name, number)
        if number == signal.SIGUSR1:
            # The signal of the soft limit, as in Celery's pool: the task is asked by SoftTimeLimitExceeded.
            self._pool.interrupt(child, seq)
            return
        if seq in child.parked:
            child.limited = seq
        child.link.page.condemn(True)
        if self._pool.kill_running(child, seq, "terminated", number, number):
            self._loop.call_later(MERCY, self._pool.kill, child, "terminated", number)
        else:
            child.link.page.condemn(False)
