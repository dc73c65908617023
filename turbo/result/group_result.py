"""``GroupResult`` and ``ResultSet``: handles on the results of several calls.

Made when a group is sent, or by a program from existing results. They read the store through their ``AsyncResult``s. If
the store notifies of results, a failure is raised when it arrives, without waiting for members before it.
"""

from __future__ import annotations

import builtins
import queue
import time
from typing import TYPE_CHECKING, Any, ClassVar

from turbo import current
from turbo.exceptions import ImproperlyConfigured, TimeoutError
from turbo.protocol.ids import text_id
from turbo.result.async_result import AsyncResult, result_from_tuple
from turbo.result.joining import assert_will_not_block
from turbo.result.members import Members
from turbo.result.result_tree import ResultBase, ResultTree

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Iterator

    from turbo.backends.reader import Meta
    from turbo.result.async_result import ResultApp

_NO_BACKEND = "Starting chords requires a result backend to be configured."


def chords_of(backend: Any) -> Any:
    """Return the ``chords`` of a store, or raise NotImplementedError."""
    found = backend.chords
    if found is None:
        kind = backend.as_uri().partition(":")[0]
        first = _NO_BACKEND if kind == "disabled" else f'The "{kind}" result backend does not support chords!'
        raise NotImplementedError(f"{first}\nIt cannot count the tasks of a chord: use redis://")
    return found


def groups_of(backend: Any) -> Any:
    """Return the ``groups`` of a store, or raise NotImplementedError."""
    found = backend.groups
    if found is None:
        kind = backend.as_uri().partition(":")[0]
        raise NotImplementedError(
            f'The "{kind}" result backend does not support saved groups!\nUse redis:// or a database (db+…://)'
        )
    return found


class ResultSet(Members, ResultBase):
    """A collection of results. A member is the result of a call or of a nested group."""

    TimeoutError: ClassVar[type[Exception]] = TimeoutError

    def __init__(self, results: Iterable[Any] | None, app: ResultApp | None = None, **_: Any) -> None:
        self._app = app
        self.results = list(results or ())

    @property
    def app(self) -> Any:
        """The app of the results: the given, the first member's, or the current."""
        if self._app is None:
            return self.results[0].app if self.results else current.current_app()
        return self._app

    @property
    def backend(self) -> Any:
        """The reader of the results."""
        return self.app.backend

    # -- states ----------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Return whether all tasks have ended, with success or failure."""
        return all(result.ready() for result in self.results)

    def waiting(self) -> bool:
        """Return whether any task has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Return whether all tasks have succeeded."""
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Return whether any task has failed."""
        return any(result.failed() for result in self.results)

    def completed_count(self) -> int:
        """Return how many tasks have succeeded."""
        return sum(bool(result.successful()) for result in self.results)

    def maybe_throw(self, callback: Callable[[str, Any], object] | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first failed task, if any, in their order."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # -- waiting ---------------------------------------------------------------------------------------------

    @property
    def supports_native_join(self) -> bool:
        """Whether the store notifies of each result when it arrives."""
        return bool(self.results) and all(result.supports_native_join for result in self.results)

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], object] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> Any:
        """Wait for all tasks and return their values in order.

        It uses :meth:`join_native` or else :meth:`join`; see ``AsyncResult.get``. ``timeout`` applies to all together.
        With ``callback``, which is called with each id and value, the values are not returned.
        """
        join = self.join_native if self.supports_native_join else self.join
        return join(
            timeout=timeout, propagate=propagate, interval=interval, callback=callback, no_ack=no_ack,
            on_message=on_message, disable_sync_subtasks=disable_sync_subtasks, on_interval=on_interval,
        )  # fmt: skip

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], object] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> list[Any]:
        """Wait for the results in turn; see :meth:`get`. [] with ``callback``."""
        if disable_sync_subtasks:
            assert_will_not_block()
        if on_message is not None:
            raise ImproperlyConfigured("Backend does not support on_message callback")
        until = None if timeout is None else time.monotonic() + timeout
        gathered = []
        for result in self.results:
            value = result.get(
                timeout=None if until is None else max(until - time.monotonic(), 0.0),
                propagate=propagate, interval=interval, no_ack=no_ack, on_interval=on_interval,
                disable_sync_subtasks=disable_sync_subtasks,
            )  # fmt: skip
            if callback is None:
                gathered.append(value)
            else:
                callback(result.id, value)
        return gathered

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any] | None:
        """Like :meth:`get`, but raises the first failure to arrive."""
        if disable_sync_subtasks:
            assert_will_not_block()
        values: dict[str, Any] = {}
        leaves = {leaf.id: leaf for leaf in self.leaves()}
        for task_id, _ in self.iter_native(timeout, interval, no_ack, on_message, on_interval):
            value = leaves[task_id].maybe_throw(propagate=propagate)
            if callback is None:
                values[task_id] = value
            else:
                callback(task_id, value)
        return None if callback is not None else self.arranged(values)

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Meta], object] | None = None,
        on_interval: Callable[[], object] | None = None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield each id and final document as they arrive. Raises TimeoutError."""
        until = None if timeout is None else time.monotonic() + timeout
        arrived: queue.SimpleQueue[tuple[AsyncResult, Meta]] = queue.SimpleQueue()
        leaves = {leaf.id: leaf for leaf in self.leaves() if not leaf.ignored}

        def notify(leaf: AsyncResult) -> Callable[[Meta], object]:
            return lambda meta: arrived.put((leaf, meta))

        cancels = [leaf.watch(notify(leaf)) for leaf in leaves.values()]
        try:
            for _ in leaves:
                leaf, meta = _next(arrived, until, interval if on_interval is not None else None, on_interval)
                if on_message is not None:
                    on_message(meta)
                yield leaf.id, leaf.remember(meta)
        finally:
            for cancel in cancels:
                cancel()

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """Awaitable version of :meth:`get`. Returns [] with ``callback``."""
        import asyncio  # large, and most programs that read results do not use it

        options = {"propagate": propagate, "disable_sync_subtasks": disable_sync_subtasks}
        waits = [asyncio.ensure_future(result.aget(**options)) for result in self.results]
        try:
            async with asyncio.timeout(timeout):
                values = await asyncio.gather(*waits)
        except builtins.TimeoutError:
            raise TimeoutError("The operation timed out.") from None
        finally:
            for wait in waits:
                wait.cancel()
        if callback is None:
            return values
        for result, value in zip(self.results, values, strict=True):
            callback(result.id, value)
        return []

    # -- actions ---------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the stored results."""
        for result in self.results:
            result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Revoke the calls on all workers; ``terminate`` also ends those that are running."""
        ids = [leaf.id for leaf in self.leaves()]
        self.app.control.revoke(
            ids, connection=connection, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )


class GroupResult(ResultSet, ResultTree):
    """A group's results. ``id`` is the group's, ``parent`` the step before it."""

    def __init__(
        self,
        id: str | uuid.UUID | None = None,
        results: Iterable[Any] | None = None,
        parent: Any = None,
        app: ResultApp | None = None,
        **_: Any,
    ) -> None:
        super().__init__(results, app)
        self.id = None if id is None else text_id(id)
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The members."""
        return self.results

    # -- saving ----------------------------------------------------------------------------------------------

    def save(self, backend: Any = None) -> None:
        """Save the group's structure for :meth:`restore`; it expires as results do."""
        groups_of(backend or self.backend).save_group(str(self.id), self.as_tuple())

    def delete(self, backend: Any = None) -> None:
        """Delete the structure that :meth:`save` stored."""
        groups_of(backend or self.backend).delete_group(str(self.id))

    @classmethod
    def restore(cls, id: str | uuid.UUID, backend: Any = None, app: Any = None) -> GroupResult | None:
        """Return the group that was saved under ``id``, or None."""
        app = app or current.current_app()
        tree = groups_of(backend or app.backend).restore_group(text_id(id))
        found: GroupResult | None = None if tree is None else result_from_tuple(tree, app)
        return found

    def as_tuple(self) -> tuple[tuple[str | None, Any], list[Any]]:
        """Return the serializable form of the result, ``((id, parent), members)``."""
        above = None if self.parent is None else self.parent.as_tuple()
        return (self.id, above), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[Any]:
        """Return the ids of the group and of its parents."""
        return [self.id, *([] if self.parent is None else self.parent.as_list())]

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (other.id, other.results, other.parent) == (self.id, self.results, self.parent)
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} [{', '.join(str(result.id) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self.results, self.parent)


def _next(
    arrived: queue.SimpleQueue[Any], until: float | None, interval: float | None, on_interval: Any
) -> tuple[AsyncResult, Meta]:
    """Wait for a document; ``on_interval`` is called. Raises TimeoutError."""
    while True:
        left = None if until is None else max(until - time.monotonic(), 0.0)
        wait = left if interval is None else min(max(interval, 0.001), left if left is not None else interval)
        try:
            found: tuple[AsyncResult, Meta] = arrived.get(timeout=wait)
            return found
        except queue.Empty:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("The operation timed out.") from None
            if on_interval is not None:
                on_interval()
