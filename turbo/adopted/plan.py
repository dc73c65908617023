"""A Celery app's task with what running it needs, and one of its messages.

It runs beside others.

Used in a child by ``adopted.executor`` and its parts. A plan must hold nothing of a single message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turbo.adopted import tracing
from turbo.adopted.coroutine_tracing import is_coroutine
from turbo.policy.settling import Ending, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.adopted.batches import BatchBody
    from turbo.adopted.result_handoff import ResultHandoff
    from turbo.policy.task_options import TaskOptions
    from turbo.protocol.message import TaskMessage


class Plan:
    """A task with what does not change from message to message."""

    __slots__ = (
        "batch",
        "beside",
        "early",
        "enters",
        "handover",
        "in_thread",
        "is_coroutine",
        "options",
        "own_request",
        "task",
        "trace",
        "verbs",
    )

    def __init__(
        self, task: Any, options: TaskOptions, own_request: bool, handover: ResultHandoff | None, *, threads: bool
    ) -> None:
        """``threads``: functions run in threads."""
        self.task = task
        self.trace = task.__trace__
        self.options = options
        self.early = not options.acks_late
        self.is_coroutine = is_coroutine(task)
        #: Runs its batches; None: it has none.
        self.batch: BatchBody | None = None
        self.in_thread = threads and not self.is_coroutine
        #: It runs beside others.
        self.beside = threads or self.is_coroutine
        #: The tracer calls the task's ``run`` and not the task; its request has to say so.
        self.enters = tracing.calls_run(task)
        #: What becomes of the message, by how the task ends.
        acks = options.ack_options()
        self.verbs = {ending: settle(ending, acks) for ending in Ending}
        #: The task has a request class of its own, which the master calls at every end.
        self.own_request = own_request
        #: Takes what the task leaves to the master to store; None: nothing.
        self.handover = handover if handover is not None and not own_request and handover.suits(task) else None


@dataclass(slots=True, eq=False)
class Run:
    """One message whose task runs beside others, or in a batch."""

    seq: int
    began: int
    message: TaskMessage
    plan: Plan
    request: dict[str, Any]
    #: The messages of its batch, itself included; empty without one.
    batch: Sequence[Run] = field(default=())
