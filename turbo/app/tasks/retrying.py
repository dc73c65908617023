"""Implements ``Task.retry``: sends the current call again, or raises.

Runs in children, called by task bodies. The message is published before ``Retry`` is raised, so every run that ends in
``Retry`` has a next attempt in the queue.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from turbo.app.canvas.signature import Signature
from turbo.app.interfaces import TaskLike
from turbo.app.tasks.batches import BatchContext
from turbo.app.tasks.call_options import adapt_arguments
from turbo.exceptions import Reject, Retry

if TYPE_CHECKING:
    from turbo.app.tasks.context import Context


class Repeatable(TaskLike, Protocol):
    """A task whose calls can be repeated."""

    def signature_from_request(
        self, request: Context | None = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra: Any
    ) -> Signature:
        """Return the call that repeats ``request``."""


def retry(
    task: Repeatable,
    args: Any,
    kwargs: Any,
    exc: Any,
    throw: bool,
    eta: datetime | str | None,
    countdown: float | None,
    max_retries: int | None,
    options: dict[str, Any],
) -> Retry:
    """Implement ``Task.retry``; the arguments are the same.

    Raises Retry (returns it unless ``throw``), ``exc`` or MaxRetriesExceededError when no retry is left, and Reject
    when the message could not be published.
    """
    request = task.request
    limit = task.max_retries if max_retries is None else max_retries
    if max_retries is not None:
        task.override_max_retries = max_retries
    if isinstance(request, BatchContext):
        # The executor sends the next attempt of each message of the batch.
        raise Retry(exc=exc, when=datetime.fromisoformat(eta) if isinstance(eta, str) else eta or countdown)
    if request.called_directly:
        _raise_from_current(exc or Retry("Task can be retried", None))
    if not eta and countdown is None:
        countdown = task.default_retry_delay
    args, kwargs = adapt_arguments(task.run, args, kwargs, request.args, request.kwargs)
    attempt = request.retries + 1
    options = {"countdown": countdown, "eta": eta, "retries": attempt, **options}
    call = task.signature_from_request(request, args, kwargs, **options)
    if limit is not None and attempt > limit:
        if exc:
            _raise_from_current(exc)
        raise task.MaxRetriesExceededError(
            f"Can't retry {task.name}[{request.id}] args:{call.args} kwargs:{call.kwargs}",
            task_args=call.args,
            task_kwargs=call.kwargs,
        )
    due = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    again = Retry(exc=exc, when=due or countdown, is_eager=request.is_eager, sig=call)
    if not request.is_eager:
        try:
            call.apply_async()
        except Exception as failure:
            raise Reject(failure, requeue=False) from failure
    if throw:
        raise again
    return again


def repeat(task: TaskLike, request: Context, args: Any, kwargs: Any, options: dict[str, Any]) -> Signature:
    """Return the signature that sends ``request`` again, by default to its queue.

    ``args`` and ``kwargs`` default (None) to the request's.
    """
    own = request.explicit_ignore_result
    merged = {
        **request.as_execution_options(),
        "ignore_result": task.ignore_result if own is None else own,
        **options,
    }
    origin = request.delivery_info or {}
    if origin.get("priority") is not None and "priority" not in options:
        merged["priority"] = origin["priority"]
    if not merged.get("queue"):
        if origin.get("exchange") == "" and origin.get("routing_key"):
            merged["queue"] = origin["routing_key"]
        else:
            merged.update({k: v for k, v in origin.items() if k in ("exchange", "routing_key") and v is not None})
    args = request.args if args is None else args
    kwargs = request.kwargs if kwargs is None else kwargs
    return Signature(task, args, kwargs, merged)


def _raise_from_current(exc: Any) -> NoReturn:
    """Raise ``exc`` with the exception that is being handled as its cause.

    If that is ``exc`` itself, it is raised again.
    """
    active = sys.exc_info()[1]
    if exc is active:
        raise
    raise exc from active
