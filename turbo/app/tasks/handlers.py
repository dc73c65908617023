"""The handlers of a task: methods that a child calls before and after the body.

They do nothing unless a program overrides them.
"""

from __future__ import annotations

from typing import Any

#: The default class of requests in the master.
_REQUEST = "turbo.native.request:Request"


class Handlers:
    """Methods that a task class may override.

    Return values are ignored, errors are logged. Handlers that follow the body are called when its outcome has been
    stored, or at once if nothing is stored.
    """

    #: The class (or its dotted name) of the request object in the worker's master, see ``turbo.native.request``.
    Request: Any = _REQUEST

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body. If it raises, the task fails with that exception."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called after the body has returned ``retval``."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the run ended in a retry.

        ``einfo`` describes the Retry, ``exc`` is its cause.
        """

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the body raised; called in the master when the task's child died.

        ``einfo`` is an ``app.tasks.einfo.ExceptionInfo``.
        """

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called last, after success or failure; ``einfo`` is None, as in Celery's tracer."""


def has_own_request(task: Handlers) -> bool:
    """Return whether the task sets its own ``Request`` class."""
    return task.Request not in (_REQUEST, None)
