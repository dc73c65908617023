"""Everywhere in the master that a delivery waits before a child has claimed it.

Runs in the master, for ``master.delivery.intake`` and ``queue_changes``: deliveries are taken out when their queue is
paused or their consumer has ended, and dropped when their session is lost. It must never touch what a child has
claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.master.delivery import units
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.deliver import parse_deliver

if TYPE_CHECKING:
    from collections.abc import Collection

    from turbo.master.delivery.batches import Batches
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.delivery.parking import Parking
    from turbo.master.delivery.paused_queues import PausedQueues
    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.delivery.received_hook import ReceivedHook
    from turbo.master.delivery.redelivery_guard import RedeliveryGuard
    from turbo.master.delivery.returning import Returns

_UNCLAIMED: Final = frozenset({State.READY, State.SUSPECT, State.DISPATCHED})
_WAITING: Final = _UNCLAIMED | {State.HELD}


class WaitingPlaces:
    """The places of one worker."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        returns: Returns,
        redelivery_guard: RedeliveryGuard,
        received_hook: ReceivedHook,
        shelf: EtaShelf,
        rate_limits: RateLimits,
        batches: Batches,
        paused_queues: PausedQueues,
        parking: Parking | None,
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._returns = returns
        self._parking = parking
        self._paused_queues = paused_queues
        self._holders = (returns, redelivery_guard, received_hook, shelf, rate_limits, batches, paused_queues)
        self._own_holders = (shelf, rate_limits, batches, redelivery_guard, received_hook, paused_queues)

    def return_unstarted(self, queue: str) -> int:
        """Give the unstarted messages of a queue back to it; return how many."""
        taken = self._take_queue(queue)
        for delivery in taken:
            self._returns.give_back(delivery)
        return len(taken)

    def hold_unstarted(self, queue: str) -> int:
        """Hold the unstarted messages of a queue, and what is still delivered.

        Return how many are here.
        """
        self._paused_queues.pause(queue)
        taken = self._take_queue(queue)
        for delivery in taken:
            self._paused_queues.hold(delivery, told=True)
        return len(taken)

    def _take_queue(self, queue: str) -> list[Delivery]:
        """Take out the unstarted deliveries of a queue, in their order of arrival."""
        here = {d for d in self._ledger if d.queue == queue and not d.acked and d.state in _WAITING}
        # A lease has changed the tag, but not the arguments of the delivery.
        return sorted(self.take_out(here), key=lambda delivery: parse_deliver(delivery.deliver).delivery_tag)

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Take these deliveries from wherever they wait, and return them."""
        taken: list[Delivery] = []
        if any(delivery.state in _UNCLAIMED for delivery in wanted):
            found, others = units.split(self._dispatcher.withdraw(), wanted)
            self._dispatcher.resubmit(others)
            self._dispatcher.balance()
            taken += found
        for holder in self._holders:
            taken += holder.take_out(wanted)
        if self._parking is not None:
            taken += self._parking.take_out(wanted)
        return taken

    def drop_held(self) -> list[Delivery]:
        """Forget what waits outside the dispatcher, and return it."""
        dropped = [delivery for holder in self._own_holders for delivery in holder.withdraw()]
        if self._parking is not None:
            dropped += self._parking.withdraw(lost=True)
        return dropped + self._returns.withdraw(lost=True)
