"""The app's side of tasks with batches: what a body gets and may return.

Used in a child by ``native.batch_runs``, and by ``app.tasks.eager``. ``@app.task(batch=Batch(size=…, interval=…))``
makes such a task. Its body takes a list of requests and returns None or a list of outcomes, one for each request. It
must never publish by itself: retries are ``app.tasks.retrying``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turbo.app.tasks.context import Context
from turbo.exceptions import Ignore, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.app.interfaces import TaskLike


class BatchRequest:
    """One call in a batch: its id, its arguments and where it came from.

    ``context`` is what ``self.request`` is in a task without batches.
    """

    __slots__ = ("args", "context", "id", "kwargs", "name")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.id: str = context.id or ""
        self.name: str = context.task or ""
        self.args: Sequence[Any] = context.args or ()
        self.kwargs: dict[str, Any] = context.kwargs or {}

    @property
    def delivery_info(self) -> dict[str, Any]:
        """The message's exchange, routing_key, priority and redelivered."""
        return self.context.delivery_info or {}

    @property
    def hostname(self) -> str | None:
        """The worker's node name."""
        return self.context.hostname

    @property
    def retries(self) -> int:
        """How often the call was retried."""
        return self.context.retries

    @property
    def ignore_result(self) -> bool | None:
        """Whether the caller wants no result; None if the call does not say so."""
        return self.context.ignore_result

    @property
    def reply_to(self) -> str | None:
        """The caller's queue for results."""
        return self.context.reply_to

    @property
    def correlation_id(self) -> str | None:
        """The id under which the caller expects the result."""
        return self.context.correlation_id

    @property
    def request_dict(self) -> dict[str, Any]:
        """Everything that is known of the call, by name."""
        return self.context.as_dict()

    def __repr__(self) -> str:
        return f"<BatchRequest: {self.name}[{self.id}]>"


class BatchContext(Context):
    """The request of the task while a batch runs: it belongs to no single call."""

    @classmethod
    def of(cls, requests: Sequence[BatchRequest]) -> BatchContext:
        """Make the request of a batch."""
        first = requests[0]
        return cls(id=str(uuid4()), task=first.name, hostname=first.hostname, args=(requests,), kwargs={})


def outcomes_of(returned: object, count: int) -> Sequence[Any]:
    """Return one outcome for each of ``count`` calls.

    Raises TypeError or ValueError unless there are as many.
    """
    if returned is None:
        return [None] * count
    if not isinstance(returned, list | tuple):
        raise TypeError(f"a batch returns None or a list of outcomes, not {type(returned).__name__}")
    if len(returned) != count:
        raise ValueError(f"the batch returned {len(returned)} outcomes for {count} requests")
    return returned


def ended(task: TaskLike, outcome: BaseException) -> BaseException:
    """Return how a call ends whose outcome is this exception.

    Its request is the task's current one. A Retry sends the next attempt, and so does what ``autoretry_for`` lists.
    """
    try:
        if isinstance(outcome, Retry):
            if outcome.sig is None:
                when = {"countdown": outcome.when} if isinstance(outcome.when, int | float) else {"eta": outcome.when}
                task.retry(exc=outcome.exc, **when)
        elif not isinstance(outcome, Ignore | Reject):
            retry: Callable[[BaseException], None] | None = task.__dict__.get("retry_if_wanted")
            if retry is not None:
                retry(outcome)
    except Exception as error:  # noqa: BLE001 - what retry raises is how the call ends
        return error
    return outcome
