"""Decides how a message is settled after its task: ack, reject, requeue.

The child calls this for outcomes that it reports, the master for the others (hard limit, lost child). The moment is not
decided here: ``master.outcome.outcomes`` acknowledges an early message when its task starts, and ``policy.finishing``
says what must come before the others. Pure; it must never settle anything itself. Source of the table: Celery's
documented behaviour, restated in docs/architecture.md under "When a message is settled".
"""

from __future__ import annotations

from dataclasses import dataclass
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


#: Endings that do not depend on the ack options: no task could run, or none has to.
_FIXED = {
    Ending.REVOKED: Verb.ACK,
    Ending.UNDECODABLE: Verb.REJECT,
    Ending.UNKNOWN_TASK: Verb.REJECT,
    Ending.INVALID: Verb.REJECT,
}


@dataclass(frozen=True, slots=True)
class AckOptions:
    """The options that the verb depends on besides the ending.

    The defaults are Celery's.
    """

    #: Acknowledge when the task has ended, not when it starts.
    acks_late: bool = False
    #: With ``acks_late``: acknowledge tasks that failed; else reject them.
    acks_on_failure: bool = True
    #: With ``acks_late``: acknowledge tasks that a hard limit ended; else put them back.
    acks_on_timeout: bool = True
    #: With ``acks_late``: put a task back that ended with its child; else it has failed.
    reject_on_worker_lost: bool = False


def settle(ending: Ending, options: AckOptions) -> Verb:
    """Return the verb for one ended delivery.

    For an early-acked message whose task began, the verb says ``ACK``, but the master sends nothing: it acknowledged
    the message when the task started.
    """
    fixed = _FIXED.get(ending)
    if fixed is not None:
        return fixed
    if not options.acks_late:
        return Verb.ACK
    if ending is Ending.FAILURE:
        return Verb.ACK if options.acks_on_failure else Verb.REJECT
    if ending is Ending.TIMEOUT:
        return Verb.ACK if options.acks_on_timeout else Verb.REQUEUE
    if ending is Ending.WORKER_LOST:
        if options.reject_on_worker_lost:
            return Verb.REQUEUE
        return Verb.ACK if options.acks_on_failure else Verb.REJECT
    if ending is Ending.REJECT:
        return Verb.REJECT
    if ending is Ending.REJECT_REQUEUE:
        return Verb.REQUEUE
    return Verb.ACK
