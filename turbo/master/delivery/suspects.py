"""The lane of messages that were delivered before: each counts one death more before a child gets it.

Runs in the master, between the ready queue and the children. Before it: ``master.delivery.recognition``, by which such
a message waits as SUSPECT. After it: ``master.delivery.lease_copies``, then the ready queue's front. A worker that is
killed as a whole tells nobody, so the death is written down first: the message is moved to a lease whose copy counts
one more, and only then handed to a child. The copy comes back from a lost worker alone; a task that ends takes it out.

Turns. A suspect keeps its place in the ready queue. When it is at the front and a child is free, the child is set
aside for it, so that what is charged is what runs. All suspects that find a free child at once are one round: they are
charged together, and none is handed to a child before all are, since any of them may end the worker, and would leave
both the original and the copy of one that is being charged. ``policy.suspects`` says which begins alone.

Where a death cannot be written down (no leases, no publisher, the broker refuses, no answer in time) the message runs
uncounted. Nothing waits here for longer than that, but for others to end. First deliveries never come here.
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

#: Seconds after which a round goes on uncounted, and for which those after it then do not wait.
_PATIENCE = 10.0
_PAUSE = 30.0
#: Seconds between looks at whether those that a message waits for have ended.
_LOOK = 0.1
_WAITS = frozenset({State.SUSPECT, State.READY})
#: A charged message is, or may soon be, with a child.
_RUNS = frozenset({State.READY, State.DISPATCHED, State.STARTED, State.FINISHING})


class Charges(Protocol):
    """Who writes a death down in the broker."""

    def can_charge(self, delivery: Delivery) -> bool:
        """Whether it is worth trying."""

    def charge(
        self, deliveries: Sequence[Delivery], done: Callable[[Delivery, bool], None]
    ) -> Coroutine[object, object, None]:
        """Count one death more of each; ``done`` is told of each, once, whether that is safe."""

    async def settle(self) -> None:
        """Return when the broker knows all that would otherwise repeat what was charged."""


class Hands(Protocol):
    """The dispatcher, as far as this module needs it."""

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put them at the front of the ready queue."""

    def take_up(self, child: ChildProcess) -> None:
        """Give a child work that was set aside."""

    def pump(self) -> None:
        """Hand out."""


class Suspects:
    """The lane of one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hands: Hands, charges: Charges | None, most: int) -> None:
        """``charges``: None writes nothing down. ``most``: deaths at which a message is given up."""
        self._loop = loop
        self._hands = hands
        self._charges = charges
        self._most = most
        #: By the loop's clock: until then nothing is written down.
        self._paused_until = 0.0
        #: The round: each delivery, and the child that is set aside for it.
        self._round: dict[Delivery, ChildProcess] = {}
        #: Those of it that wait for their charge.
        self._unanswered: set[Delivery] = set()
        #: Whether the round is being charged, so that nobody joins it any more, and its number.
        self._begun = False
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        #: What was charged and has not ended: whether one death more would end it.
        self._charged: dict[Delivery, bool] = {}
        #: What waits for others to end, in its order.
        self._waiting: list[Delivery] = []

    def look_at_first(self, ready: deque[Delivery], free: deque[ChildProcess]) -> bool:
        """Decide about the SUSPECT at the front of the ready queue; False when it stays there as it is for now.

        Otherwise it is READY and may be handed out uncounted, or this object has it.
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
            # It begins at the next turn of the loop: until then others may join.
            self._task = self._loop.create_task(self._charge(charges, self._number), name="suspects")
        return True

    def withdraw(self) -> list[Delivery]:
        """Give up everything that waits here. The children that were set aside are the caller's to list again."""
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
        logger.warning(
            "The broker has not taken the counts of %d redelivered messages in %g seconds; they run uncounted, as do "
            "those of the next %g seconds",
            len(self._unanswered),
            _PATIENCE,
            _PAUSE,
        )
        self._paused_until = self._loop.time() + _PAUSE
        for delivery in self._unanswered:
            self._charged.pop(delivery, None)
            if delivery.state is State.SUSPECT:
                delivery.move(State.READY)
        self._end_round()

    def _end_round(self) -> None:
        """Hand out what was charged together."""
        done, self._round = self._round, {}
        self._close_round()
        self._hands.resubmit(delivery for delivery in done if delivery.state is State.READY)
        for child in done.values():
            self._hands.take_up(child)
        self._hands.pump()

    def _close_round(self) -> None:
        self._number += 1
        self._begun = False
        self._unanswered = set()

    # -- one alone ---------------------------------------------------------------------------------------

    def _may_begin(self, last_chance: bool) -> bool:
        self._charged = {delivery: last for delivery, last in self._charged.items() if _may_run(delivery)}
        return suspects.may_begin(last_chance, len(self._charged), any(self._charged.values()))

    def _look_again(self) -> None:
        """Let what waits have its turn once the first of it may begin."""
        if not self._waiting:
            return
        if not self._may_begin(suspects.is_last_chance(self._deaths(self._waiting[0]), self._most)):
            self._loop.call_later(_LOOK, self._look_again)
            return
        waiting, self._waiting = self._waiting, []
        self._hands.resubmit(waiting)
        self._hands.pump()

    def _deaths(self, delivery: Delivery) -> int:
        try:
            properties, _size = decode_header(delivery.header)
        except TableError:
            return 0
        return poison.deaths(properties.headers)


def _may_run(delivery: Delivery) -> bool:
    """Whether a charged message has not ended; one that is being charged counts as well."""
    return delivery.state in _RUNS or delivery.state is State.SUSPECT
