"""``AsyncResult``: the handle of one call, for waiting and reading its result.

Made by the app when a task is sent, or by a program from a stored id. Reads through ``backends.reader``. It must never
import the app: it gets one from ``current`` and uses the Protocol ``ResultApp``. It can be used from any thread. A
final document is read once and kept. It must never run code that a document names: ``protocol.faults`` only looks up
exception classes in modules that are already loaded.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, cast

from turbo import current, states
from turbo.exceptions import TaskError, TimeoutError
from turbo.protocol.ids import text_id
from turbo.result.joining import assert_will_not_block
from turbo.result.result_tree import ResultTree
from turbo.result.watched import WatchedResult

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from typing_extensions import TypeVar  # type checkers bundle it, so it need not be installed

    from turbo.backends.reader import Meta, ResultReader

    #: The type of the task's return value; Any if it is unknown.
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class ResultApp(Protocol):
    """The attributes of an app that results use."""

    @property
    def backend(self) -> ResultReader:
        """The reader of the configured result store."""

    @property
    def control(self) -> Any:
        """The client side of remote control."""


class AsyncResult(WatchedResult, ResultTree, Generic[T]):
    """The result of the task ``id`` (str or UUID), which may not exist yet.

    ``app`` defaults to the current app and ``backend`` to the app's result reader. ``parent`` is the result of the
    step before the task in a chain. ``task_name`` is accepted for compatibility and ignored. Raises ValueError when
    ``id`` is None.
    """

    #: The error that ``get`` raises after its timeout.
    TimeoutError: ClassVar[type[Exception]] = TimeoutError

    def __init__(
        self,
        id: str | uuid.UUID,
        backend: ResultReader | None = None,
        task_name: str | None = None,
        app: ResultApp | None = None,
        parent: Any = None,
    ) -> None:
        if id is None:
            raise ValueError(f"AsyncResult requires valid id, not {type(id)}")
        self.id = text_id(id)
        self.parent = parent
        #: True if the task keeps no result, so that ``get`` does not wait. Set by the sender of the task.
        self.ignored = False
        self._app = app
        self._backend = backend
        self._final = None

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def app(self) -> Any:
        """The app of this result; by default the current app."""
        return current.current_app() if self._app is None else self._app

    @property
    def backend(self) -> Any:
        """The reader of this result; by default the app's."""
        return self.app.backend if self._backend is None else self._backend

    # -- waiting ---------------------------------------------------------------------------------------------

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
    ) -> T:
        """Wait until the task has ended and return its value.

        ``timeout`` is in seconds; None waits for ever. The exception of a failed task is raised, or returned with
        ``propagate=False``; with ``follow_parents`` the exception of a failed parent is raised too.
        ``callback(id, value)`` is called with the value, ``on_message`` with every document that arrives,
        ``on_interval`` between waits of ``interval`` seconds. ``no_ack`` is accepted for compatibility and ignored:
        replies are acknowledged when they arrive. Returns None at once for a task that keeps no result.

        Raises ``turbo.exceptions.TimeoutError`` after ``timeout``, and RuntimeError inside a task, where waiting for
        another task can block the whole pool, unless ``disable_sync_subtasks`` is False.
        """
        if self.ignored:
            return cast("T", None)
        if disable_sync_subtasks:
            assert_will_not_block()
        check_parents = follow_parents and propagate and self.parent is not None
        if check_parents:
            self._raise_failed_parent()
        if self._final is None:

            def between() -> None:
                if check_parents:
                    self._raise_failed_parent()
                if on_interval is not None:
                    on_interval()

            watched = check_parents or on_interval is not None
            meta = self.backend.wait_for(
                self.id, timeout=timeout, interval=interval, on_message=on_message,
                on_interval=between if watched else None,
            )  # fmt: skip
            self._take(meta)
        return cast("T", self.maybe_throw(propagate=propagate, callback=callback))

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> T:
        """Awaitable version of :meth:`get`.

        Waits without blocking the event loop and without a thread per result. Raises ``turbo.exceptions.TimeoutError``
        after ``timeout`` seconds, and RuntimeError inside a task, as ``get`` does.
        """
        import asyncio  # large, and most programs that read results do not use it

        if self.ignored:
            return cast("T", None)
        if disable_sync_subtasks:
            assert_will_not_block()
        if self._final is None:
            loop = asyncio.get_running_loop()
            arrived: asyncio.Future[Meta] = loop.create_future()

            def found(meta: Meta) -> None:
                loop.call_soon_threadsafe(deliver, meta)

            def deliver(meta: Meta) -> None:
                if not arrived.done():
                    arrived.set_result(meta)

            cancel = await asyncio.to_thread(self.backend.watch, self.id, found)
            try:
                async with asyncio.timeout(timeout):
                    meta = await arrived
            except builtins.TimeoutError:
                raise TimeoutError("The operation timed out.") from None
            finally:
                cancel()
            self._take(meta)
        return cast("T", self.maybe_throw(propagate=propagate, callback=callback))

    @property
    def supports_native_join(self) -> bool:
        """Whether the store notifies of results.

        Always True, since an app without a store raises when it is read.
        """
        return True

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None) -> Any:
        """Raise the task's exception if it failed; otherwise return its current result."""
        meta = self._meta()
        value = meta["result"]
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            raise value if isinstance(value, BaseException) else TaskError(value)
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def _raise_failed_parent(self) -> None:
        parents = []
        node = self.parent
        while node is not None:
            parents.append(node)
            node = node.parent
        for node in reversed(parents):
            node.maybe_throw()

    def _read(self) -> Meta:
        meta: Meta = self.backend.get_task_meta(self.id)
        return meta

    def _child(self, value: Any) -> Any:
        return result_from_tuple(value, self.app)

    # -- actions ---------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the stored result, and those of the parents."""
        self._final = None
        if self.parent is not None:
            self.parent.forget()
        self.backend.forget(self.id)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Revoke the task on all workers; ``terminate`` also ends it if it is running."""
        self.app.control.revoke(
            self.id, connection=connection, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )

    def revoke_by_stamped_headers(
        self, headers: dict[str, Any], connection: Any = None, terminate: bool = False, signal: str | None = None,
        wait: bool = False, timeout: float | None = None,
    ) -> None:  # fmt: skip
        """Revoke every task with these stamps, of whatever call, on all workers."""
        self.app.control.revoke_by_stamped_headers(
            headers, connection=connection, terminate=terminate, signal=signal or "SIGTERM", reply=wait, timeout=timeout
        )

    def as_tuple(self) -> tuple[tuple[str, Any], None]:
        """Return the serializable form of the result, ``((id, parent), None)``."""
        return (self.id, None if self.parent is None else self.parent.as_tuple()), None

    def as_list(self) -> list[str]:
        """Return the ids of this result and its parents."""
        return [self.id, *([] if self.parent is None else self.parent.as_list())]

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return bool(other.id == self.id)
        if isinstance(other, str):
            return other == self.id
        return NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, None, None, None, self.parent)


def result_from_tuple(r: Any, app: ResultApp | None = None) -> Any:
    """Rebuild a result or group from its ``as_tuple``; a result is returned unchanged.

    Raises ValueError for anything else.
    """
    if hasattr(r, "as_tuple"):
        return r
    try:
        head, members = r
        id, parent = head if isinstance(head, (list, tuple)) else (head, None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a result: {r!r}") from error
    above = None if parent is None else result_from_tuple(parent, app)
    if members is not None:
        home: Any = current.current_app() if app is None else app
        return home.GroupResult(id, [result_from_tuple(member, app) for member in members], parent=above)
    return AsyncResult(str(id), app=app, parent=above)
