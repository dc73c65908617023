"""Reads a stored document: a task's state, result and other fields.

The base class of ``result.async_result`` for reading, in clients and children. Every property reads the document from
the store; a final document is read once and kept. It must never wait for a task, and never run code that a document
names: ``protocol.faults`` only looks up exception classes in modules that are already loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from turbo import states
from turbo.exceptions import TaskError
from turbo.protocol.faults import from_wire

if TYPE_CHECKING:
    from turbo.backends.reader import Meta


class StoredResult(ABC):
    """The document of one task.

    Every property may read the store, until the state is final.
    """

    #: The final document, its exception and children already rebuilt; None until it has been read.
    _final: Meta | None = None

    @abstractmethod
    def _read(self) -> Meta:
        """Read the document from the store."""

    @abstractmethod
    def _child(self, value: Any) -> Any:
        """Rebuild the result of a child from its tuple."""

    def ready(self) -> bool:
        """Return whether the task has ended, with success or failure."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Return whether the task succeeded."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Return whether the task failed."""
        return self.state == states.FAILURE

    def exists(self) -> bool:
        """Return whether the store has a document of the task.

        A task without a document may be unknown or waiting; its state is PENDING in both cases.
        """
        return self.state != states.PENDING

    @property
    def state(self) -> str:
        """The current state: one of ``turbo.states``, or one that the task has set itself."""
        state: str = self._meta()["status"]
        return state

    status = state

    @property
    def result(self) -> Any:
        """The task's return value, its exception, or the ``meta`` of a custom state."""
        return self._meta()["result"]

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task, as text."""
        return self._meta().get("traceback")

    @property
    def children(self) -> list[Any] | None:
        """The results of the tasks that this task sent; available when it has ended."""
        return self._meta().get("children")

    @property
    def date_done(self) -> datetime | None:
        """The time at which the task ended, as an aware datetime in UTC."""
        done = self._meta().get("date_done")
        return datetime.fromisoformat(done) if isinstance(done, str) else done

    @property
    def name(self) -> str | None:
        """The task's name.

        This and the next five properties are None without ``result_extended``.
        """
        return self._meta().get("name")

    @property
    def args(self) -> Any:
        """The task's positional arguments."""
        return self._meta().get("args")

    @property
    def kwargs(self) -> Any:
        """The task's keyword arguments."""
        return self._meta().get("kwargs")

    @property
    def worker(self) -> str | None:
        """The node name of the worker that ran it."""
        return self._meta().get("worker")

    @property
    def retries(self) -> int | None:
        """How often the task has been retried."""
        return self._meta().get("retries")

    @property
    def queue(self) -> str | None:
        """The routing key of the task's message."""
        return self._meta().get("queue")

    def _meta(self) -> Meta:
        return self._final if self._final is not None else self._take(self._read())

    def _take(self, meta: Meta) -> Meta:
        """Rebuild the exception and children of a decoded document.

        Keep the document if it is final.
        """
        if meta["status"] in states.EXCEPTION_STATES and not isinstance(meta["result"], BaseException):
            meta["result"] = _exception(meta["result"])
        if meta["status"] in states.READY_STATES:
            if meta.get("children"):
                meta["children"] = [self._child(child) for child in meta["children"]]
            self._final = meta
        return meta


def _exception(document: Any) -> BaseException | None:
    """Rebuild an exception from its document.

    Returns None for None, and a TaskError for any other value.
    """
    if document is None:
        return None
    if isinstance(document, Sequence) and not isinstance(document, (str, bytes)):
        try:
            document = dict(document)
        except (TypeError, ValueError):
            return TaskError(document)
    return from_wire(document) if isinstance(document, dict) else TaskError(document)
