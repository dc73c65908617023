"""What a task says of its results: the store it has, states of its own, the calls that it made.

Part of ``app.task.Task``. In a child states go to the master, which stores them in order; elsewhere the app's own
reader stores them. It must never open a store before it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from turbo import current
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from turbo.app.task import Task


class TaskResults:
    """A task's store, states and trail."""

    _backend: Any = None

    @property
    def _owner(self) -> Task:
        """This, as the whole that it always is a part of."""
        return cast("Task", self)

    @property
    def backend(self) -> Any:
        """The result store's client side: the app's, unless the task was given its own."""
        return self._owner.app.backend if self._backend is None else self._backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    @property
    def has_own_backend(self) -> bool:
        """Whether the task was given a store of its own, which clients and the task itself then use."""
        return self._backend is not None

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store ``state`` with ``meta`` as the state of ``task_id``, by default of the task being run."""
        request = self._owner.request
        task_id = request.id if task_id is None else task_id
        if task_id is None:
            raise ValueError("update_state outside a task needs a task_id")
        task_id = text_id(task_id)
        store = current.get_state_store()
        if store is None:
            self.backend.store_result(task_id, meta, state, request=request)
        else:
            store(task_id, state, meta, request)

    def add_trail(self, result: Any) -> Any:
        """Remember ``result`` among the children of the current run, unless ``trail`` is off."""
        if self._owner.trail:
            self._owner.request.children.append(result)
        return result
