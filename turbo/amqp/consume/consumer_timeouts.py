"""The broker's consumer timeout of each queue, and that which the worker asks for.

Before it: the queues of a worker and ``policy.lease``. After it: ``amqp.consume.link``, which asks for the timeout
when it consumes, and ``master.delivery.leases``, which renews in time. Runs in the master; pure. It must never talk to
a broker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from turbo.policy import lease

if TYPE_CHECKING:
    from turbo.amqp.topology import Queue


@dataclass(frozen=True, slots=True)
class ConsumerTimeouts:
    """The timeouts of one worker, in seconds."""

    #: The timeout where neither queue nor consumer sets one; 0 turns leases off.
    configured: float
    #: The longest hard time limit of this worker's tasks; None when a task has no limit.
    longest_hard_limit: float | None = None

    def asked_for(self, queue: Queue, version: tuple[int, ...], *, quorum: bool) -> Queue:
        """Return the queue with the timeout argument that its consumer sends.

        The argument depends on the broker's version.
        """
        if lease.TIMEOUT_ARGUMENT in queue.consumer_arguments:
            return queue
        asked = lease.wanted_timeout(
            self.longest_hard_limit, quorum=quorum, version=version, configured=self.configured
        )
        if asked is None:
            return queue
        return replace(queue, consumer_arguments={**queue.consumer_arguments, lease.TIMEOUT_ARGUMENT: asked})

    def longest_of(self, queue: Queue) -> float:
        """Return the longest lease that this queue can have with any broker, in seconds."""
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
