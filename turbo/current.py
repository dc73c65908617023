"""The current app, task and request, and the publisher of this process.

The lowest module of the API. It imports nothing of turbo, so that the result classes can find the app, and a child can
install its publisher, without importing the app's class. Runs in clients and children. It creates a default app only
through the factory that ``app.base`` registers.

The stack of running tasks is in one context variable: threads start with an empty stack, each coroutine has its own,
and pushing allocates one small object.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Publisher(Protocol):
    """An object that publishes finished messages."""

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        declare: Sequence[Any] = (),
        mandatory: bool = False,
    ) -> None:
        """Publish one message; return when it is as safe as this publisher guarantees.

        ``header`` is the payload of the content-header frame; ``declare`` lists the queues (``amqp.topology.Queue``)
        that must exist first. Raises ``turbo.exceptions.OperationalError`` when the message could not be published.
        """
        ...


class StateStore(Protocol):
    """A function that stores the custom state of a running task."""

    def __call__(self, task_id: str, state: str | None, meta: Any, request: Any) -> None:
        """Store ``state`` with ``meta`` for ``task_id``.

        ``request`` is the running ``app.tasks.context.Context``.
        """
        ...


class Frame:
    """One running task: an immutable link of the stack.

    ``task`` and ``request`` are objects of the app.
    """

    __slots__ = ("below", "request", "task")

    def __init__(self, task: Any, request: Any, below: Frame | None) -> None:
        self.task = task
        self.request = request
        self.below = below


_stack: ContextVar[Frame | None] = ContextVar("turbo_running", default=None)


def push(task: Any, request: Any) -> Token[Frame | None]:
    """Make ``task`` with ``request`` the current one; return a token for :func:`pop`."""
    return _stack.set(Frame(task, request, _stack.get()))


def pop(token: Token[Frame | None]) -> None:
    """Restore the task that was current before the matching :func:`push`."""
    _stack.reset(token)


def top() -> Frame | None:
    """Return the innermost running task's frame, or None outside every task."""
    return _stack.get()


def drop(task: Any) -> None:
    """Remove the innermost frame, for callers without a token.

    Raises RuntimeError unless it is ``task``'s.
    """
    frame = _stack.get()
    if frame is None or frame.task is not task:
        raise RuntimeError(f"{task!r} is not the current task")
    _stack.set(frame.below)


def request_of(task: Any) -> Any | None:
    """Return the innermost request of ``task`` in this context, or None."""
    frame = _stack.get()
    while frame is not None:
        if frame.task is task:
            return frame.request
        frame = frame.below
    return None


def current_task() -> Any | None:
    """Return the innermost running task, or None."""
    frame = _stack.get()
    return None if frame is None else frame.task


def worker_frame() -> Frame | None:
    """Return the innermost frame of a task that a worker runs, or None.

    Tasks that were called as functions are skipped.
    """
    frame = _stack.get()
    while frame is not None and frame.request.called_directly:
        frame = frame.below
    return frame


class _Apps(threading.local):
    """The app that was made current in this thread, or None."""

    app: Any | None = None


_apps = _Apps()
_default_app: Any | None = None
_factory: Callable[[], Any] | None = None
_finalizers: list[Callable[[Any], object]] = []
_finalized: weakref.WeakSet[Any] = weakref.WeakSet()
_publisher: Publisher | None = None
_state_store: StateStore | None = None
_event_sink: Callable[[dict[str, Any]], None] | None = None
_lock = threading.RLock()


def register_app_factory(factory: Callable[[], Any]) -> None:
    """Set the function that creates the default app when one is needed."""
    global _factory
    _factory = factory


def set_current_app(app: Any) -> None:
    """Make ``app`` the current app of all threads that have not set another.

    It becomes that of this thread in any case.
    """
    global _default_app
    _apps.app = app
    _default_app = app


def set_default_app(app: Any | None) -> None:
    """Make ``app`` the current app of threads that have not set one."""
    global _default_app
    _default_app = app


def current_app() -> Any:
    """Return the current app (a ``turbo.app.base.Turbo``).

    Creates a default app if there is none.
    """
    global _default_app
    app = _apps.app or _default_app
    if app is not None:
        return app
    with _lock:
        if _default_app is None:
            if _factory is None:
                raise RuntimeError("there is no app yet: create a turbo.Turbo first")
            _default_app = _factory()
        return _default_app


@contextmanager
def isolated_apps() -> Iterator[None]:
    """Undo at the end of the block its current apps and its shared tasks."""
    global _default_app
    before = _apps.app, _default_app, list(_finalizers)
    try:
        yield
    finally:
        _apps.app, _default_app, _finalizers[:] = before


def connect_on_app_finalize(callback: Callable[[Any], object]) -> None:
    """Call ``callback(app)`` for every app that is finalized from now on."""
    _finalizers.append(callback)


def finalized_apps() -> list[Any]:
    """Return the apps that are already finalized.

    New shared tasks are added to them at once.
    """
    return list(_finalized)


def announce_finalize(app: Any) -> None:
    """Record that ``app`` is finalized, and call the registered callbacks with it."""
    _finalized.add(app)
    for callback in tuple(_finalizers):
        callback(app)


def set_publisher(publisher: Publisher | None) -> None:
    """Publish all messages of this process through ``publisher``.

    None restores the app's broker connection. A worker's child installs a publisher that passes the messages of its
    tasks to the master.
    """
    global _publisher
    _publisher = publisher


def get_publisher() -> Publisher | None:
    """Return this process's publisher; None: the app's own connection is used."""
    return _publisher


def set_state_store(store: StateStore | None) -> None:
    """Store the states of ``Task.update_state`` through ``store``.

    None restores the app's result store.
    """
    global _state_store
    _state_store = store


def get_state_store() -> StateStore | None:
    """Return this process's function that stores states; None: the app's store."""
    return _state_store


def set_event_sink(sink: Callable[[dict[str, Any]], None] | None) -> None:
    """Send this process's events through ``sink``, without the worker's fields.

    None restores the app's broker connection.
    """
    global _event_sink
    _event_sink = sink


def get_event_sink() -> Callable[[dict[str, Any]], None] | None:
    """Return the function that sends events; None: the app's own connection."""
    return _event_sink


def in_worker_child() -> bool:
    """Return whether this is a worker's child, whose messages the master sends."""
    return _publisher is not None


def _forget_after_fork() -> None:
    """Remove the parent's hooks in a forked process: they use the parent's ring."""
    global _publisher, _state_store, _event_sink, _lock
    _publisher = None
    _state_store = None
    _event_sink = None
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_after_fork)
