"""The result methods of a task: its store, custom states and trail.

A base class of ``app.task.Task``. In a child, states are sent to the master, which stores them in order; elsewhere the
app's own backend stores them. A store is opened only when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from turbo import current
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from turbo.app.interfaces import TaskLike


class TaskResults:
    """The result store, custom states and trail of a task."""

    _backend: Any = None

    @property
    def _owner(self) -> TaskLike:
        """Return self, typed as a whole task."""
        return cast("TaskLike", self)

    @property
    def backend(self) -> Any:
        """The client of the result store: the task's own if it was set, else the app's."""
        return self._owner.app.backend if self._backend is None else self._backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    @property
    def has_own_backend(self) -> bool:
        """Whether ``backend`` was set on this task.

        Clients and the task itself use that store; workers do not.
        """
        return self._backend is not None

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store ``state`` with ``meta`` for ``task_id`` or the running task.

        Raises ValueError without a ``task_id`` outside a task.
        """
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
        """Add ``result`` to the children of the current request, unless ``trail`` is off.

        Returns it.
        """
        if self._owner.trail:
            self._owner.request.children.append(result)
        return result
