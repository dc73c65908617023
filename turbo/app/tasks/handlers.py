"""The handlers of a task: methods that a child calls around its body, empty until a program overrides
them.
"""

from __future__ import annotations

from typing import Any

#: The class of requests in the master, unless a task names another.
_REQUEST = "turbo.native.request:Request"


class Handlers:
    """What a task's class may override to be told of a run. Return values are ignored, errors logged.

    Those after the body are called when its outcome is stored, or at once where nothing is to be stored.
    """

    #: The class, or its dotted name, of what stands for a run in the worker's master: see ``turbo.native.request``.
    Request: Any = _REQUEST

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body. What it raises is the task's failure."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called when the body returned."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the run ended in a retry. ``einfo`` is that of the Retry, ``exc`` its cause."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the body raised; in the master when the task has ended with its child.

        ``einfo`` is an ``app.tasks.einfo.ExceptionInfo``.
        """

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called last, after success or failure; ``einfo`` is None, as Celery's tracer has it."""


def has_own_request(task: Handlers) -> bool:
    """Whether the task names a class of requests of its own."""
    return task.Request not in (_REQUEST, None)
