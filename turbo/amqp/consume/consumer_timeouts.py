"""How long the broker lets this worker's deliveries stay unsettled, queue by queue, and what it is asked for.

Before it: the queues of a worker and ``policy.lease``. After it: ``amqp.consume.link``, which asks when it consumes,
and ``master.delivery.leases``, which renews in time. Runs in the master; pure. It must never talk to a broker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from turbo.policy import lease

if TYPE_CHECKING:
    from turbo.amqp.topology import Queue


@dataclass(frozen=True, slots=True)
class ConsumerTimeouts:
    """What a worker knows of them: all in seconds."""

    #: Where neither queue nor consumer says it; 0 turns leases off.
    configured: float
    #: The most that any task of this worker may run; None when one may run for ever.
    longest_hard_limit: float | None = None

    def asked_for(self, queue: Queue, version: tuple[int, ...], *, quorum: bool) -> Queue:
        """Return the queue with the timeout that its consumer asks a broker of this version for."""
        if lease.TIMEOUT_ARGUMENT in queue.consumer_arguments:
            return queue
        asked = lease.wanted_timeout(
            self.longest_hard_limit, quorum=quorum, version=version, configured=self.configured
        )
        if asked is None:
            return queue
        return replace(queue, consumer_arguments={**queue.consumer_arguments, lease.TIMEOUT_ARGUMENT: asked})

    def longest_of(self, queue: Queue) -> float:
        """Return the most seconds that a lease of this queue can have, whatever the broker."""
        return max(self.lease_of(queue, (99,), quorum=True), self.lease_of(queue, (99,), quorum=False))

    def lease_of(self, queue: Queue, version: tuple[int, ...], *, quorum: bool) -> float:
        """Return the seconds for which a delivery of this queue may stay unsettled."""
        consumed = self.asked_for(queue, version, quorum=quorum)
        return lease.length(
            consumed.queue_arguments,
            consumed.consumer_arguments,
            quorum=quorum,
            version=version,
            configured=self.configured,
        )
