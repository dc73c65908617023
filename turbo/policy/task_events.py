"""Decides which task events a worker sends about the end of a task.

Before it: how the task ended and what becomes of its message, from ``policy.settling``. After it:
``master.outcome.task_events``, which adds the fields. Pure. The table is Celery's: which events its worker sends, and
in which order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.policy.settling import Ending, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

SUCCEEDED: Final = "task-succeeded"
FAILED: Final = "task-failed"
RETRIED: Final = "task-retried"
REVOKED: Final = "task-revoked"
REJECTED: Final = "task-rejected"

#: The types of an end, by the task-rejected event: empty unless the message is rejected or put back.
_TABLE: Final[dict[Ending, Callable[[tuple[str, ...]], tuple[str, ...]]]] = {
    Ending.SUCCESS: lambda _rejected: (SUCCEEDED,),
    Ending.FAILURE: lambda rejected: (*rejected, FAILED),
    Ending.RETRY: lambda _rejected: (RETRIED,),
    Ending.REJECT: lambda rejected: (FAILED, *rejected),
    Ending.REJECT_REQUEUE: lambda rejected: rejected,
    Ending.TIMEOUT: lambda rejected: (FAILED, *rejected),
    Ending.WORKER_LOST: lambda rejected: (*rejected, FAILED),
    Ending.REVOKED: lambda _rejected: (REVOKED,),
    Ending.UNKNOWN_TASK: lambda _rejected: (FAILED,),
}


def types_of_end(ending: Ending, verb: Verb, *, acked: bool) -> tuple[str, ...]:
    """Return the types of the events to send, in order.

    None for endings that Celery does not report. ``acked``: the message was acknowledged when its task started, so it
    is neither rejected nor put back.
    """
    put_back = verb is Verb.REQUEUE and not acked
    if ending is Ending.WORKER_LOST and put_back:
        return (REJECTED,)  # it runs again, so it has not failed
    types = _TABLE.get(ending)
    return () if types is None else types((REJECTED,) if not acked and verb in (Verb.REJECT, Verb.REQUEUE) else ())
