"""Returns what waits behind long tasks beyond the app's own window.

Runs in the master, for ``master.window``, which narrows the window first: new consumers have the narrow one, and what
waits from the old consumers goes back to the broker. ``policy.surplus`` says when. The broker is asked whether anybody
lacks the messages, because a late-acknowledged one that was returned costs the next worker a recorded death. It must
never return a message that a child has claimed or that was acknowledged, nor one of a consumer that still runs: the
broker would deliver that to the same consumer again.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from turbo.master.delivery import units
from turbo.policy import surplus
from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    from turbo.amqp.consume.link import BrokerLink
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.delivery.returning import Returns

#: States of a delivery that waits for a child; those in a ring are taken back if no child has claimed them.
_WAITS: Final = frozenset({State.READY, State.DISPATCHED})
_RUNS: Final = frozenset({State.STARTED, State.FINISHING})


class Surplus:
    """The surplus of one worker."""

    def __init__(self, dispatcher: Dispatcher, ledger: Ledger, returns: Returns, link: BrokerLink) -> None:
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._returns = returns
        self._link = link
        #: What stopped consumers have left here since the last return.
        self._left: set[Delivery] = set()

    @property
    def waits(self) -> bool:
        """Whether messages wait for a child."""
        return self._dispatcher.waiting > 0 or self._dispatcher.ahead > 0

    def all_long(self) -> bool:
        """Whether every child is in a long task."""
        now = time.monotonic_ns()
        return surplus.all_long(now, (now if c.free_listed else c.moved_ns for c in self._dispatcher.children))

    async def is_lacked(self, own: int) -> bool:
        """Whether more than ``own`` messages of a queue are here and others lack them.

        Raises ``ChannelGone``.
        """
        for queue in surplus.exceeding(own, Counter(delivery.queue for delivery in self._unsettled())):
            if await self._link.others_lack(queue, self._counted(queue)):
                return True
        return False

    def _counted(self, queue: str) -> frozenset[bytes]:
        """Return the tags of consumers that the broker may count though they stopped.

        A quorum queue counts a stopped consumer until its messages are settled.
        """
        if not self._link.refusals.is_quorum(queue):
            return frozenset()
        here = (d for d in self._ledger if d.queue == queue and not d.acked and not d.lease)
        return frozenset(map(_consumer_of, here))

    def running(self) -> int:
        """Return how many unsettled messages run."""
        return sum(delivery.state in _RUNS for delivery in self._unsettled())

    def left(self) -> int:
        """Return how many unsettled messages are left since the last return.

        Only those of consumers that were stopped then.
        """
        if self._left:
            self._left.intersection_update(self._unsettled())
        return len(self._left)

    def give_back(self) -> int:
        """Return what waits from stopped consumers; return the number."""
        running = self._link.running_tags()
        self._left = {delivery for delivery in self._unsettled() if _consumer_of(delivery) not in running}
        wanted = {d for d in self._left if d.state in _WAITS and _is_single(d)}
        found, others = units.split(self._dispatcher.withdraw(), wanted)
        self._dispatcher.resubmit(others)
        for delivery in sorted(found, key=lambda delivery: delivery.tag):
            self._returns.offer(delivery)
        self._link.flush()
        self._dispatcher.balance()
        self._left.difference_update(found)
        return len(found)

    def _unsettled(self) -> list[Delivery]:
        """Return what fills the window as work.

        Neither leased messages, which ``LeaseCopies`` counts, nor held ones, for which the window is widened.
        """
        return [d for d in self._ledger if not d.acked and not d.lease and d.state is not State.HELD]


def _consumer_of(delivery: Delivery) -> bytes:
    """Return the tag of the consumer that got it."""
    return delivery.deliver[1 : 1 + delivery.deliver[0]]


def _is_single(delivery: Delivery) -> bool:
    """Whether it is no part of a batch."""
    return not (delivery.followers or delivery.follows)
