"""Moves long-held deliveries to a lease before the broker takes them back.

The lease is this worker's own.

Runs in the master, beside the intake. Before it: ``master.delivery.ledger``, whose deliveries it checks several times
per lease (``policy.lease``). After it: ``master.delivery.lease_copies``, which moves those that are due. It must never
handle a delivery that is settled soon: a short task pays nothing. The deliveries of a lease queue have a lease as well,
so they are moved again after half of it.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from turbo.policy import lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.topology import Queue
    from turbo.master.delivery.lease_copies import LeaseCopies
    from turbo.master.delivery.ledger import Delivery, Ledger

#: Seconds between checks while there is no session.
_IDLE = 1.0


class Leases:
    """The leases of one worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        queues: Mapping[str, Queue],
        link: BrokerLink,
        copies: LeaseCopies,
        make_room: Callable[[], Awaitable[None]],
        *,
        timeouts: ConsumerTimeouts,
    ) -> None:
        """``make_room`` narrows the prefetch window by what is about to be leased."""
        self._loop = loop
        self._ledger = ledger
        self._queues = queues
        self._link = link
        self.copies = copies
        self._make_room = make_room
        self._timeouts = timeouts
        self._ages: dict[str, float] = {}
        self._marks = lease.AgeMarks(0.0, keep=0.0)

    # -- the session's side ------------------------------------------------------------------------------

    def begin_session(self) -> None:
        """Start with no leases: every tag and lease queue of the previous session is gone."""
        longest = max([self._timeouts.configured, *map(self._timeouts.longest_of, self._queues.values())])
        self._marks = lease.AgeMarks(self._loop.time(), keep=longest)
        self.copies.forget()

    def end_session(self) -> None:
        """Drop the moves of a lost session; the broker has requeued every copy."""
        self.copies.forget()
        self._ages = {}

    # -- renewing ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Check the ages of deliveries until cancelled, and move those that are due."""
        if self._timeouts.configured <= 0:
            return
        while True:
            shortest = min(self._ages.values(), default=0.0)
            await asyncio.sleep(lease.look_interval(2 * shortest) if shortest else _IDLE)
            await self.renew()

    async def renew(self) -> None:
        """Move every delivery that is too old, opening the lease queues it needs."""
        due = self._due(self._loop.time())
        for name in {delivery.queue for delivery in due}:
            if not await self.copies.ready(name):
                due = [delivery for delivery in due if delivery.queue != name]
        self.copies.plan(due)
        await self._make_room()
        self.copies.carry_out(due)

    def _due(self, now: float) -> list[Delivery]:
        self._marks.note(self._ledger.newest, now)
        self.copies.drop_overdue(now)
        ages = self._ages = self._renewal_ages()
        if not ages:
            return []
        oldest = self._marks.newest_of_age(min(ages.values()), now)
        return [
            delivery
            for delivery in self._ledger.up_to(oldest)
            if not delivery.acked
            and not self.copies.is_moving(delivery)
            and self._marks.most_age(delivery.tag, now) >= self._age_to_move(delivery)
        ]

    def _renewal_ages(self) -> dict[str, float]:
        """Ages at which deliveries are moved.

        Computed each time: a queue's type is known only once it is declared.
        """
        version, kinds = self._link.server_version, self._link.refusals
        if self._link.session is None:
            return {}
        lengths = {
            name: self._timeouts.lease_of(queue, version, quorum=kinds.is_quorum(name))
            for name, queue in self._queues.items()
        }
        return {name: lease.renewal_age(seconds) for name, seconds in lengths.items() if seconds > 0}

    def _age_to_move(self, delivery: Delivery) -> float:
        """The age in seconds at which a delivery is moved.

        A lease queue sets no timeout of its own.
        """
        if delivery.lease:
            return lease.renewal_age(self._timeouts.configured)
        return self._ages.get(delivery.queue, math.inf)
