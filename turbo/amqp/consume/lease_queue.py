"""The queue for copies of deliveries that are kept longer than the broker allows.

Before it: ``master.delivery.leases``, which needs one for a task queue. After it: ``amqp.consume.session``, which
declares and consumes it. The worker consumes its own copies and leaves them unacknowledged; a consumed copy does not
expire. When the connection is lost, the copies return to this queue, where they have expired, and the broker
dead-letters them to the task queue: within 20 to 150 ms on RabbitMQ 4.0 and 4.3, classic and quorum. Pure. It must
never talk to a broker.
"""

from __future__ import annotations

import hashlib
from typing import Final

from turbo.amqp.topology import Queue

#: Milliseconds for which a copy waits to be consumed by this worker. A worker killed just after it made the copy
#: delays the message by at most this time.
_TTL: Final = 2_000
#: Milliseconds after which the broker deletes an unused lease queue.
_EXPIRES: Final = 24 * 3600 * 1000
#: The broker version from which quorum queues dead-letter at least once.
_AT_LEAST_ONCE: Final = (3, 10)
_LONGEST_NAME: Final = 255


def lease_queue(queue: Queue, worker: str, version: tuple[int, ...], *, quorum: bool) -> Queue:
    """Return the lease queue of a task queue, of the same type.

    ``worker`` identifies one run of one worker.
    """
    arguments: dict[str, object] = {
        "x-queue-type": "quorum" if quorum else "classic",
        "x-message-ttl": _TTL,
        "x-expires": _EXPIRES,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue.name,
    }
    if quorum and version >= _AT_LEAST_ONCE:
        # A copy leaves only when the task queue has confirmed it.
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return Queue(lease_queue_name(queue.name, worker), queue_arguments=arguments, lease=True)


def lease_queue_name(queue: str, worker: str) -> str:
    """Return the name of a lease queue. A digest replaces the end of a long name."""
    name = f"turbo.lease.{worker}.{queue}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{name.encode()[: _LONGEST_NAME - 33].decode(errors='ignore')}.{digest}"
