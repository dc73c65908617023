"""Which app, which task and which request are current, and who publishes for this process.

The lowest module of the API: it imports nothing of turbo, so the result classes can find the app, and a child
can install its publisher, without knowing the app's class. Runs in clients and children. It must never create
an app on its own account; ``app.base`` registers the factory that does.

The stack of running tasks hangs on one context variable: threads start with an empty stack, coroutines of one
loop each have their own, and pushing costs one small object.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Publisher(Protocol):
    """Whatever takes a finished message off the caller's hands."""

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
        """Take one message; return once it is as safe as this publisher promises.

        ``header`` is the payload of the content-header frame, ``declare`` the queues
        (``amqp.topology.Queue``) that have to exist first. Raises ``turbo.exceptions.OperationalError``
        when it could not.
        """
        ...


class StateStore(Protocol):
    """Whatever stores the state that a task gives itself while it runs."""

    def __call__(self, task_id: str, state: str | None, meta: Any, request: Any) -> None:
        """Store ``state`` with ``meta`` for ``task_id``; ``request`` is the ``app.tasks.context.Context``
        running.
        """
        ...


class Frame:
    """One running task: an immutable link of the stack. ``task`` and ``request`` are the app's own
    objects.
    """

    __slots__ = ("below", "request", "task")

    def __init__(self, task: Any, request: Any, below: Frame | None) -> None:
        self.task = task
        self.request = request
        self.below = below


_stack: ContextVar[Frame | None] = ContextVar("turbo_running", default=None)


def push(task: Any, request: Any) -> Token[Frame | None]:
    """Make ``task`` with ``request`` the current one; give the token back to :func:`pop`."""
    return _stack.set(Frame(task, request, _stack.get()))


def pop(token: Token[Frame | None]) -> None:
    """End what the matching :func:`push` began."""
    _stack.reset(token)


def top() -> Frame | None:
    """Return the innermost running task's frame, or None outside every task."""
    return _stack.get()


def drop(task: Any) -> None:
    """End the innermost frame, which must be ``task``'s: the form of :func:`pop` for callers without a
    token.
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
    """Return the innermost frame that a worker started, skipping tasks that were called as functions."""
    frame = _stack.get()
    while frame is not None and frame.request.called_directly:
        frame = frame.below
    return frame


class _Apps(threading.local):
    """The app made current in this thread, if any."""

    app: Any | None = None


_apps = _Apps()
_default_app: Any | None = None
_factory: Callable[[], Any] | None = None
_finalizers: list[Callable[[Any], object]] = []
_finalized: weakref.WeakSet[Any] = weakref.WeakSet()
_publisher: Publisher | None = None
_state_store: StateStore | None = None
_lock = threading.RLock()


def register_app_factory(factory: Callable[[], Any]) -> None:
    """Say how the default app is made when somebody asks for one and none exists."""
    global _factory
    _factory = factory


def set_current_app(app: Any) -> None:
    """Make ``app`` current in this thread, and in all threads that have made no other current."""
    global _default_app
    _apps.app = app
    _default_app = app


def set_default_app(app: Any | None) -> None:
    """Make ``app`` the one that threads without a current app get."""
    global _default_app
    _default_app = app


def current_app() -> Any:
    """Return the current app (a ``turbo.app.base.Turbo``), making a default one if none was made yet."""
    global _default_app
    app = _apps.app or _default_app
    if app is not None:
        return app
    with _lock:
        if _default_app is None:
            if _factory is None:
                raise RuntimeError("no app exists yet: create a turbo.Turbo first")
            _default_app = _factory()
        return _default_app


def connect_on_app_finalize(callback: Callable[[Any], object]) -> None:
    """Call ``callback(app)`` for every app that is finalized from now on."""
    _finalizers.append(callback)


def finalized_apps() -> list[Any]:
    """Return the apps that were finalized already: they take tasks shared from now on at once."""
    return list(_finalized)


def announce_finalize(app: Any) -> None:
    """Run the callbacks that wait for apps to be finalized."""
    _finalized.add(app)
    for callback in tuple(_finalizers):
        callback(app)


def set_publisher(publisher: Publisher | None) -> None:
    """Send everything this process publishes through ``publisher``; None goes back to a broker connection.

    A worker's child installs its own here, so that ``delay`` inside a task travels to the master.
    """
    global _publisher
    _publisher = publisher


def get_publisher() -> Publisher | None:
    """Return the publisher installed for this process, or None where the app's own connection is used."""
    return _publisher


def set_state_store(store: StateStore | None) -> None:
    """Store the states of ``Task.update_state`` through ``store``; None goes back to the app's result
    store.
    """
    global _state_store
    _state_store = store


def get_state_store() -> StateStore | None:
    """Return the function that stores states in this process, or None where the app's result store does."""
    return _state_store


def in_worker_child() -> bool:
    """Tell whether this process has a worker's master to publish for it."""
    return _publisher is not None


def _forget_after_fork() -> None:
    """A forked process must not use its parent's hook: the ring behind it is the parent's."""
    global _publisher, _state_store, _lock
    _publisher = None
    _state_store = None
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_after_fork)
