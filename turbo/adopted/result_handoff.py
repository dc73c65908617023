"""Leaves results to the master instead of storing them in the child.

The master stores those of all children together.

Celery's Redis backend asks, writes and publishes for every result, in two round trips that the child waits for; its rpc
backend publishes a message and waits for the broker's confirm. Both take several times as long as tracing a small task.
Where nothing can observe the difference, the document that Celery would have sent goes into the DONE record instead,
and the master stores it before it acknowledges the message.

Two places decide that: ``adopted.handed_backends`` for the app, and :class:`ResultHandoff`, in the child, for every
task and message: only a SUCCESS is left to the master, outside of chords, with no handler or receiver that runs after
the result is stored and might read it. Celery's code stores everything else. ``adopted.result_documents`` encodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import signals, states
from celery.app import trace

from turbo.adopted.result_documents import ResultDocuments

if TYPE_CHECKING:
    from celery import Celery

    from turbo.child.time_limits import SoftLimit


class ResultHandoff:
    """Holds the document of the running task for the master, in one child."""

    __slots__ = ("_awaited", "_documents", "_given", "_soft", "_store", "_stored_by")

    def __init__(self, app: Celery, soft: SoftLimit) -> None:
        self._soft = soft
        #: Id of the message whose SUCCESS may be left to the master; empty: of none.
        self._awaited = ""
        #: The packed document, and the arguments of the call that would have stored it.
        self._given: bytes | None = None
        self._stored_by: tuple[Any, ...] = ()
        self._documents = ResultDocuments(app)
        backend = app.backend
        self._store = backend.store_result
        backend.store_result = self._take

    def suits(self, task: Any) -> bool:
        """Whether nothing of this task's own runs between storing its result and its end."""
        handlers = ("on_success", "after_return")
        return task.backend is self._store.__self__ and not any(trace.task_has_custom(task, name) for name in handlers)

    def open(self, task_id: str, *, in_chord: bool) -> None:
        """Prepare for a message that the tracer runs next.

        Results of parts of chords are not handed off.
        """
        if not (in_chord or signals.task_success.receivers or signals.task_postrun.receivers):
            self._awaited = task_id

    def _take(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
    ) -> Any:
        """Replace the backend's ``store_result``."""
        if self._given is not None:
            # Code that runs after the success must find it stored.
            self.store_now()
        # A body may store a state under its own id and read it back.
        if state != states.SUCCESS or task_id != self._awaited or self._soft.armed or traceback or options:
            return self._store(task_id, result, state, traceback=traceback, request=request, **options)
        value = self._store.__self__.prepare_value(result)
        self._given = self._documents.packed(task_id, value, request)
        if self._given is None:
            return self._store(task_id, result, state, traceback=traceback, request=request)
        self._stored_by = (task_id, result, state, traceback, request)
        return value

    def store_now(self) -> None:
        """Store the held document by Celery's code: the task ends otherwise than expected."""
        if self._given is not None:
            self._given = None
            self._store(*self._stored_by)

    def close(self, *, succeeded: bool) -> bytes:
        """Return the packed document for the master after the tracer.

        Empty if Celery has stored everything.
        """
        if not succeeded:
            self.store_now()
        packed, self._awaited = self._given, ""
        if packed is None:
            return b""
        self._given, self._stored_by = None, ()
        return packed
