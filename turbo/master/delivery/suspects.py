"""Counts a possible death of the worker before a redelivered message runs.

Runs in the master, between the ready queue and the children. Before it: ``master.delivery.recognition``, which makes
such a message wait as SUSPECT. After it: ``master.delivery.lease_copies``, then the front of the ready queue. A worker
that is killed cannot report the death, so it is recorded in advance: the message is moved to a lease whose copy counts
one more death, and only then given to a child. Only the loss of the worker returns the copy; a task that ends removes
it.

A suspect keeps its place in the ready queue. When it reaches the front and a child is free, that child is reserved for
it, so that a charged message runs at once. The suspects that find a free child in the same pass form a round. They are
charged together, and none starts before all are charged: any of them may kill the worker, which would leave both the
original and the copy of a message that is being charged. ``policy.suspects`` decides which must run alone.

When a death cannot be recorded (no leases, no publisher, refused by the broker, no answer in time) the message runs
uncounted. A message must never wait here longer than that, except for others to end. First deliveries never come here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from turbo.policy import poison, suspects
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.properties import decode_header
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    import asyncio
    from collections import deque
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery

logger = logging.getLogger(__name__)

#: Seconds after which a round runs uncounted, and seconds for which the following rounds are not charged.
_PATIENCE = 10.0
_PAUSE = 30.0
#: Seconds between checks whether the tasks that a message waits for have ended.
_LOOK = 0.1
_WAITS = frozenset({State.SUSPECT, State.READY})
#: States in which a charged message is with a child, or may soon be.
_RUNS = frozenset({State.READY, State.DISPATCHED, State.STARTED, State.FINISHING})


class Charges(Protocol):
    """Records deaths in the broker."""

    def can_charge(self, delivery: Delivery) -> bool:
        """Whether charging this delivery can succeed."""

    def charge(
        self, deliveries: Sequence[Delivery], done: Callable[[Delivery, bool], None]
    ) -> Coroutine[object, object, None]:
        """Count one more death of each.

        Call ``done`` once for each with whether that is safe.
        """

    async def settle(self) -> None:
        """Return when the broker has all that would redeliver what was charged."""


class DispatcherPart(Protocol):
    """The part of the dispatcher that this module uses."""

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries at the front of the ready queue."""

    def take_up(self, child: ChildProcess) -> None:
        """Give work to a child that was reserved."""

    def pump(self) -> None:
        """Hand out ready deliveries."""


class Suspects:
    """The suspects of one worker."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dispatcher: DispatcherPart, charges: Charges | None, most: int
    ) -> None:
        """``charges``: None records no deaths.

        ``most``: deaths at which a message is given up.
        """
        self._loop = loop
        self._dispatcher = dispatcher
        self._charges = charges
        self._most = most
        #: Time of the loop's clock until which no deaths are recorded.
        self._paused_until = 0.0
        #: The current round: its deliveries and the children reserved for them.
        self._round: dict[Delivery, ChildProcess] = {}
        #: Deliveries of the round that wait for their charge.
        self._unanswered: set[Delivery] = set()
        #: Whether the round is being charged and accepts no more deliveries; and its number.
        self._begun = False
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        #: Charged deliveries that have not ended: whether one more death would be their last.
        self._charged: dict[Delivery, bool] = {}
        #: Deliveries that wait for others to end, in order.
        self._waiting: list[Delivery] = []

    def look_at_first(self, ready: deque[Delivery], free: deque[ChildProcess]) -> bool:
        """Handle the SUSPECT at the front of the ready queue.

        False when it stays there for now. Otherwise it becomes READY and may run uncounted, or this object holds it.
        """
        delivery = ready[0]
        deaths, charges = self._deaths(delivery), self._charges
        impossible = charges is None or self._loop.time() < self._paused_until or not charges.can_charge(delivery)
        if charges is None or impossible or suspects.is_spent(deaths, self._most):
            delivery.move(State.READY)
            return True
        while free and not free[0].serving:
            free.popleft().free_listed = False
        if not free or self._begun:
            return False
        last_chance = suspects.is_last_chance(deaths, self._most)
        if self._waiting or not self._may_begin(last_chance):
            self._waiting.append(ready.popleft())
            if len(self._waiting) == 1:
                self._loop.call_later(_LOOK, self._look_again)
            return True
        child = free.popleft()
        child.free_listed = False
        self._charged[delivery] = last_chance
        self._round[ready.popleft()] = child
        if len(self._round) == 1:
            # The round begins in the next pass of the loop; others may join until then.
            self._task = self._loop.create_task(self._charge(charges, self._number), name="suspects")
        return True

    def withdraw(self) -> list[Delivery]:
        """Give up everything that waits here.

        The caller lists the reserved children again.
        """
        taken = [delivery for delivery in (*self._round, *self._waiting) if delivery.state in _WAITS]
        for delivery in self._round:
            if delivery.state is State.SUSPECT:
                self._charged.pop(delivery, None)
        self._round = {}
        self._waiting = []
        self._close_round()
        return taken

    # -- a round -----------------------------------------------------------------------------------------

    async def _charge(self, charges: Charges, number: int) -> None:
        if number != self._number:
            return
        self._begun = True
        self._unanswered = set(self._round)
        self._loop.call_later(_PATIENCE, self._give_up, number)
        await charges.charge(list(self._round), self._answered)

    def _answered(self, delivery: Delivery, charged: bool) -> None:
        if delivery not in self._unanswered:
            return
        self._unanswered.discard(delivery)
        if not charged:
            self._charged.pop(delivery, None)
        if delivery.state is State.SUSPECT:
            delivery.move(State.READY)
        if not self._unanswered and self._charges is not None:
            self._task = self._loop.create_task(self._settle(self._charges, self._number), name="suspects")

    async def _settle(self, charges: Charges, number: int) -> None:
        await charges.settle()
        if number == self._number:
            self._end_round()

    def _give_up(self, number: int) -> None:
        if number != self._number:
            return
        # Those whose charge is answered are counted: only the answer about their originals is late.
        logger.warning(
            "The broker did not answer about %d redelivered messages in %g seconds; they run now, %d of them "
            "uncounted, and so do those of the next %g seconds",
            len(self._round),
            _PATIENCE,
            len(self._unanswered),
            _PAUSE,
        )
        self._paused_until = self._loop.time() + _PAUSE
        for delivery in self._unanswered:
            self._charged.pop(delivery, None)
            if delivery.state is State.SUSPECT:
                delivery.move(State.READY)
        self._end_round()

    def _end_round(self) -> None:
        """Hand out the deliveries that were charged together."""
        done, self._round = self._round, {}
        self._close_round()
        self._dispatcher.resubmit(delivery for delivery in done if delivery.state is State.READY)
        for child in done.values():
            self._dispatcher.take_up(child)
        self._dispatcher.pump()

    def _close_round(self) -> None:
        self._number += 1
        self._begun = False
        self._unanswered = set()

    # -- one alone ---------------------------------------------------------------------------------------

    def _may_begin(self, last_chance: bool) -> bool:
        self._charged = {delivery: last for delivery, last in self._charged.items() if _may_run(delivery)}
        return suspects.may_begin(last_chance, len(self._charged), any(self._charged.values()))

    def _look_again(self) -> None:
        """Resubmit the waiting deliveries once the first of them may begin."""
        if not self._waiting:
            return
        if not self._may_begin(suspects.is_last_chance(self._deaths(self._waiting[0]), self._most)):
            self._loop.call_later(_LOOK, self._look_again)
            return
        waiting, self._waiting = self._waiting, []
        self._dispatcher.resubmit(waiting)
        self._dispatcher.pump()

    def _deaths(self, delivery: Delivery) -> int:
        try:
            properties, _size = decode_header(delivery.header)
        except TableError:
            return 0
        return poison.deaths(properties.headers)


def _may_run(delivery: Delivery) -> bool:
    """Whether a charged message, or one being charged, has not ended."""
    return delivery.state in _RUNS or delivery.state is State.SUSPECT
