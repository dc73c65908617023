"""``autoretry_for``: retries a task when its body raises a listed exception.

``run`` is wrapped when the task is made, so autoretry works wherever the body is run. Retry, Ignore and Reject are the
program's own decisions and must never be retried.
"""

from __future__ import annotations

import functools
import inspect
import random
from typing import TYPE_CHECKING, Any

from turbo.exceptions import Ignore, Reject, Retry
from turbo.policy.retry_delay import backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.app.interfaces import TaskLike


def add_autoretry(task: TaskLike) -> None:
    """Wrap ``task.run`` so that it retries.

    Does nothing unless ``autoretry_for`` is set on the task. Reads the task's ``autoretry_for``,
    ``dont_autoretry_for`` (exception classes), ``retry_kwargs`` (arguments of ``retry``), ``retry_backoff`` (False,
    True or a factor in seconds), ``retry_backoff_max`` (seconds, default 600) and ``retry_jitter`` (default True).
    """
    wanted = tuple(getattr(task, "autoretry_for", ()))
    if not wanted or "run" in task.__dict__ or "retry_if_wanted" in task.__dict__:
        return
    unwanted = tuple(getattr(task, "dont_autoretry_for", ()))
    body, again = task.run, _repeater(task)

    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        task.override_max_retries = None
        try:
            return body(*args, **kwargs)
        except (Ignore, Reject, Retry, *unwanted):
            raise
        except wanted as exc:
            raise again(exc) from exc

    @functools.wraps(body)
    async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
        task.override_max_retries = None
        try:
            return await body(*args, **kwargs)
        except (Ignore, Reject, Retry, *unwanted):
            raise
        except wanted as exc:
            raise again(exc) from exc

    def retry_if_wanted(error: BaseException) -> None:
        task.override_max_retries = None
        if isinstance(error, wanted) and not isinstance(error, unwanted):
            raise again(error) from error

    if getattr(task, "batch", None) is not None:
        # Each message of a batch ends, and is retried, by its own outcome.
        task.__dict__["retry_if_wanted"] = retry_if_wanted
        return
    # Set on the instance only, because the class may be the base of other tasks.
    task.__dict__["run"] = run_coroutine if inspect.iscoroutinefunction(body) else run


def _repeater(task: TaskLike) -> Callable[[BaseException], Retry]:
    """Return what retries the current call for an exception, by its options."""
    retry_kwargs: dict[str, Any] = getattr(task, "retry_kwargs", {})
    factor = float(getattr(task, "retry_backoff", False))
    longest = int(getattr(task, "retry_backoff_max", 600))
    jitter = random.randrange if getattr(task, "retry_jitter", True) else None

    def again(exc: BaseException) -> Retry:
        options = dict(retry_kwargs)
        if factor:
            options["countdown"] = backoff(int(max(1.0, factor)), task.request.retries, longest, jitter)
        limit = task.override_max_retries
        if limit is not None:
            # The body called retry with its own max_retries and exceeded it.
            options["max_retries"] = limit
        return task.retry(exc=exc, **options)

    return again
