"""The tasks of an app by name.

Filled as task modules are imported; read in a child's executor for every message, never in clients. It must never
import anything: a name that is not registered is not a task of this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from turbo import current
from turbo.exceptions import InvalidTaskError, NotRegistered

if TYPE_CHECKING:
    from turbo.app.interfaces import TaskLike

#: The class of the tasks.
T = TypeVar("T", bound="TaskLike")


class TaskRegistry(dict[str, T]):
    """Task names to task instances."""

    NotRegistered = NotRegistered

    def __missing__(self, name: str) -> T:
        raise NotRegistered(name)

    def register(self, task: T) -> None:
        """Add ``task`` under its name; raises InvalidTaskError when it has none."""
        if not task.name:
            raise InvalidTaskError(f"Task class {type(task).__name__!r} must specify .name attribute")
        self[task.name] = task

    def unregister(self, name: str | T) -> None:
        """Remove a task, given as the task or its name.

        Raises NotRegistered if it is not registered.
        """
        key = name if isinstance(name, str) else str(name.name)
        try:
            del self[key]
        except KeyError:
            raise NotRegistered(key) from None


def restore_task(name: str) -> TaskLike:
    """Unpickle a task, which is pickled as its name."""
    task: TaskLike = current.current_app().tasks[name]
    return task
