"""The methods of ``app.backend`` that programs call, by Celery's names.

``AsyncResult`` needs others, see ``backends.reader``.
A base class of the readers, in clients and children. Each is made of ``get_task_meta`` and ``store_result``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from turbo import states
from turbo.exceptions import TaskRevokedError
from turbo.protocol.faults import from_wire

if TYPE_CHECKING:
    from turbo.backends.reader import Meta


class CalledByPrograms(ABC):
    """A result store as programs use it."""

    @abstractmethod
    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Return the document of a task."""

    @abstractmethod
    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Store a document."""

    def get_state(self, task_id: str) -> str:
        """Return the state of a task."""
        state: str = self.get_task_meta(task_id)["status"]
        return state

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        """Return the value of a task, or the exception with which it failed."""
        meta = self.get_task_meta(task_id)
        result = meta["result"]
        if meta["status"] in states.EXCEPTION_STATES and isinstance(result, dict):
            return from_wire(result)
        return result

    def get_traceback(self, task_id: str) -> str | None:
        """Return the traceback of a failed task, as text."""
        return self.get_task_meta(task_id).get("traceback")

    def get_children(self, task_id: str) -> list[Any] | None:
        """Return the tasks that a task has sent, as tuples."""
        return self.get_task_meta(task_id).get("children")

    def reload_task_result(self, task_id: str) -> None:
        """Do nothing: no document is cached."""
        return

    def cleanup(self) -> None:
        """Do nothing: results expire by themselves, except in databases."""
        return

    def wait_for_pending(self, result: Any, **kwargs: Any) -> Any:
        """Wait for an ``AsyncResult``; return its value. Arguments as for ``get``."""
        return result.get(disable_sync_subtasks=False, **kwargs)

    # -- states that a program sets --------------------------------------------------------------------------

    def mark_as_started(self, task_id: str, **meta: Any) -> None:
        """Store STARTED."""
        self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(
        self, task_id: str, result: object, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Store SUCCESS. Raises NotImplementedError for a request with a chord."""
        _refuse_consequences(request)
        if store_result and not getattr(request, "ignore_result", False):
            self.store_result(task_id, result, state, request=request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store FAILURE.

        Raises NotImplementedError for a request with a chord, a chain or error callbacks.
        """
        _refuse_consequences(request, "chain", *(("errbacks",) if call_errbacks else ()))
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        """Store RETRY."""
        self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """Store REVOKED. Raises NotImplementedError for a request with a chord."""
        _refuse_consequences(request)
        if store_result:
            self.store_result(task_id, TaskRevokedError(reason), state, request=request)


def _refuse_consequences(request: Any, *more: str) -> None:
    """Raise NotImplementedError for an end that only the worker can handle."""
    for name in ("chord", *more):
        if getattr(request, name, None):
            raise NotImplementedError(
                f"the task has {name}={getattr(request, name)!r}, which the worker handles when the task ends: return, "
                "or raise, from the task itself"
            )
