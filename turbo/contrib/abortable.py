"""Tasks that a client can ask to stop.

The client stores the state ABORTED, and the body checks for it.

Used in clients and in a task's body. Both need a result backend that can be read from anywhere. A body that does not
check is not stopped. It must never end a task by itself.
"""

from __future__ import annotations

from typing import Any

from turbo.app.task import Task
from turbo.result.async_result import AsyncResult

#: The state of a task that was asked to stop.
ABORTED = "ABORTED"


class AbortableAsyncResult(AsyncResult[Any]):
    """The handle of a call of an :class:`AbortableTask`."""

    def is_aborted(self) -> bool:
        """Whether the task was asked to stop, and has not stored another state since."""
        return bool(self.state == ABORTED)

    def abort(self) -> None:
        """Ask the task to stop.

        Raises ``turbo.exceptions.OperationalError`` when the store cannot be reached.
        """
        self.backend.store_result(self.id, None, ABORTED)


class AbortableTask(Task):
    """Base class of tasks that return early when :meth:`is_aborted` is true.

    Name it with ``base=``.
    """

    abstract = True

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AbortableAsyncResult:
        """Return the handle of this task's call ``task_id``."""
        return AbortableAsyncResult(task_id, app=self.app, **kwargs)

    def is_aborted(self, task_id: str | None = None, **_: Any) -> bool:
        """Whether the call being run, or ``task_id``, was asked to stop.

        Reads the result backend.
        """
        task_id = task_id or self.request.id
        if task_id is None:
            raise ValueError("is_aborted outside of a task needs a task_id")
        return self.AsyncResult(task_id).is_aborted()
