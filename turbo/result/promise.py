"""Calls functions when a result has ended, as ``then`` of Celery's results does.

``Promise`` has the interface of vine's, so that promises and barriers of vine can be given as callbacks, and handles on
results can be given to vine; vine itself is not needed. Used by clients, in any thread: the one that reads results
for all (``backends.reader``), or the one that reads the end of a task first. It must never wait for a task.
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Promise:
    """Called once; calls its function, and then its callbacks with what that returned.

    Without a function the callbacks get the arguments. The lock is never held while other code is called, so callbacks
    may wait for other results and other threads.
    """

    def __init__(self, fun: Callable[..., Any] | None = None, on_error: Callable[[Any], object] | None = None) -> None:
        self.ready = self.failed = self.cancelled = False
        #: The positional and keyword arguments that callbacks get; None until it has been called.
        self.value: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        #: The exception with which it failed.
        self.reason: BaseException | None = None
        self._fun = fun
        self._on_error = on_error
        self._callbacks: list[Any] = []
        self._called = False
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and all callbacks; return what the function returned.

        Raises what the function raised, unless there is an ``on_error`` for it, or a callback.
        """
        with self._lock:
            if self._called or self.failed or self.cancelled:
                return None
            self._called = True
        returned = None
        if self._fun is not None:
            try:
                returned = self._fun(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised, unless an on_error takes it
                return self.throw(error)
            args, kwargs = (returned,), {}
        with self._lock:
            self.value = args, kwargs
            self.ready = True
            callbacks = self._taken()
        with ExitStack() as calls:  # all are called, also if one raises
            for callback in reversed(callbacks):
                calls.callback(callback, *args, **kwargs)
        return returned

    def then(self, callback: Callable[..., Any], on_error: Callable[[Any], object] | None = None) -> Any:
        """Call ``callback`` when this has been called; at once if it has.

        ``on_error`` gets the exception if ``callback`` raises. Returns the promise of what ``callback`` returns.
        """
        after: Any = callback if hasattr(callback, "then") else Promise(callback, on_error)
        with self._lock:
            value = self.value
            if not self.cancelled and not self.failed and value is None:
                self._callbacks.append(after)
                return after
        if self.cancelled:
            after.cancel()
        elif self.failed:
            after.throw(self.reason)
        elif value is not None:
            args, kwargs = value
            after(*args, **kwargs)
        return after

    def throw(self, exc: BaseException | None = None, tb: TracebackType | None = None, propagate: bool = True) -> None:
        """Fail with ``exc``, by default the one being handled, as its callbacks do then.

        Raises it if there is no ``on_error``, unless ``propagate`` is False.
        """
        with self._lock:
            if self.cancelled:
                return
            self.failed = True
            self.reason = exc if exc is not None else sys.exc_info()[1]
            callbacks = self._taken()
        if self._on_error is not None:
            self._on_error(self.reason)
        for callback in callbacks:
            callback.throw(self.reason, propagate=False)
        if self._on_error is None and propagate and self.reason is not None:
            raise self.reason if tb is None else self.reason.with_traceback(tb)

    def cancel(self) -> None:
        """Call no callback any more."""
        with self._lock:
            self.cancelled = True
            callbacks = self._taken()
        for callback in callbacks:
            callback.cancel()

    def _taken(self) -> list[Any]:
        taken, self._callbacks = self._callbacks, []
        return taken


class Thenable:
    """``then`` of a handle on results."""

    @property
    def on_ready(self) -> Promise:
        """The promise that is called with this handle when its tasks have ended."""
        raise NotImplementedError

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[Any], object] | None = None, weak: bool = False
    ) -> Any:
        """Call ``callback`` with this handle when its tasks have ended.

        At once if they have; otherwise in the thread that reads results, or in the one that first reads their end. A
        failed task calls it too. ``on_error`` gets the exception that ``callback`` raises; without it, the exception is
        logged, or raised to the caller. Never called for a task that keeps no result. ``weak`` is accepted for
        compatibility and ignored.
        Returns the promise of what ``callback`` returns, which has ``then`` too.
        """
        return self.on_ready.then(callback, on_error)

    def throw(self, *args: Any, **kwargs: Any) -> None:
        """Fail ``on_ready``: see :meth:`Promise.throw`."""
        self.on_ready.throw(*args, **kwargs)


class Countdown:
    """Calls a promise with ``handle`` when all results have ended that were added."""

    def __init__(self, handle: Any) -> None:
        self.promise = Promise()
        self._handle = handle
        self._lock = threading.Lock()
        self._left = 1  # until start

    def add(self, result: Any) -> None:
        """Wait for this result too."""
        with self._lock:
            self._left += 1
        result.then(self.one_ended)

    def start(self) -> None:
        """Call the promise when the results have ended; at once if they have."""
        self.one_ended(None)

    def one_ended(self, _: Any) -> None:
        """Count one; the last one calls the promise."""
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self.promise(self._handle)
