"""``EagerResult``: the result of a task that ran in the caller's own process.

Made by ``app.tasks.eager``. It has the interface of ``AsyncResult``, but holds the outcome itself and reads no store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo import states
from turbo.exceptions import TaskRevokedError
from turbo.result.async_result import AsyncResult
from turbo.result.joining import assert_will_not_block
from turbo.result.watched import nothing

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from turbo.backends.reader import Meta


class EagerResult(AsyncResult[Any]):
    """The outcome of a task that ran in this process.

    ``ret_value`` is its value or exception.
    """

    def __init__(
        self, id: str | uuid.UUID, ret_value: Any, state: str, traceback: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(id)
        self._outcome: Meta = {
            "task_id": self.id, "status": state, "result": ret_value, "traceback": traceback, "children": None,
            "name": name,
        }  # fmt: skip

    @property
    def supports_native_join(self) -> bool:
        """Always False: no store notifies of this result."""
        return False

    def ready(self) -> bool:
        """Return True: the task has ended."""
        return True

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Any:
        """Return the task's value or raise its exception.

        Returns None for a retried, ignored or rejected task. Raises RuntimeError inside a task, as
        ``AsyncResult.get`` does.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        state = self.state
        if state == states.SUCCESS or state in states.PROPAGATE_STATES:
            return self.maybe_throw(propagate=propagate, callback=callback)
        return None

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Any:
        """Awaitable version of :meth:`get`; never waits."""
        return self.get(propagate=propagate, callback=callback, disable_sync_subtasks=disable_sync_subtasks)

    def watch(self, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` at once: the task has ended."""
        found(self._outcome)
        return nothing

    def forget(self) -> None:
        """Do nothing: no result is stored."""

    def revoke(self, *_: Any, **__: Any) -> None:
        """Set the state to REVOKED, although the task has run."""
        revoked = TaskRevokedError("revoked")
        self._outcome.update(status=states.REVOKED, result=revoked, traceback=None)

    def _read(self) -> Meta:
        return self._outcome

    def _take(self, meta: Meta) -> Meta:
        return meta

    def __reduce__(self) -> tuple[Any, ...]:
        outcome = self._outcome
        return type(self), (self.id, outcome["result"], outcome["status"], outcome["traceback"], outcome["name"])
