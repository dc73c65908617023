"""What becomes of a message when its task has ended: ack, reject or requeue.

The child calls this for outcomes it lived to see, the master for those it did not (hard limit, lost child).
Source of the table: Celery's documented behaviour, restated in docs/architecture.md under "When a message is settled".
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Ending(IntEnum):
    """How a delivery's task ended."""

    SUCCESS = 1
    FAILURE = 2
    RETRY = 3
    IGNORE = 4
    REJECT = 5
    REJECT_REQUEUE = 6
    TIMEOUT = 7
    WORKER_LOST = 8
    REVOKED = 9
    UNKNOWN_TASK = 10
    INVALID = 11
    UNDECODABLE = 12


@unique
class Verb(IntEnum):
    """What the master does with the delivery."""

    ACK = 1
    REJECT = 2
    REQUEUE = 3
    #: Not settled: the task is not due yet and goes back to the master to be held.
    HOLD = 4


#: Endings that never depend on the ack options: the message is no task that could run, or needs no run.
_FIXED = {
    Ending.REVOKED: Verb.ACK,
    Ending.UNDECODABLE: Verb.REJECT,
    Ending.UNKNOWN_TASK: Verb.REJECT,
    Ending.INVALID: Verb.REJECT,
}


def settle(
    ending: Ending,
    *,
    acks_late: bool,
    acks_on_failure: bool = True,
    acks_on_timeout: bool = True,
    reject_on_worker_lost: bool = False,
) -> Verb:
    """Decide the verb for one ended delivery.

    An early-acked message was acknowledged when its child accepted it: the verb is then ``ACK`` whatever
    happened, and the master, finding the tag settled, does nothing.
    """
    fixed = _FIXED.get(ending)
    if fixed is not None:
        return fixed
    if not acks_late:
        return Verb.ACK
    if ending is Ending.FAILURE:
        return Verb.ACK if acks_on_failure else Verb.REJECT
    if ending is Ending.TIMEOUT:
        return Verb.ACK if acks_on_timeout else Verb.REQUEUE
    if ending is Ending.WORKER_LOST:
        if reject_on_worker_lost:
            return Verb.REQUEUE
        return Verb.ACK if acks_on_failure else Verb.REJECT
    if ending is Ending.REJECT:
        return Verb.REJECT
    if ending is Ending.REJECT_REQUEUE:
        return Verb.REQUEUE
    return Verb.ACK
