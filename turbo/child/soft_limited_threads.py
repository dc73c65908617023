"""The soft time limit of tasks in threads: raised in the thread of the task.

Runs in a child that runs functions in threads, in the place of ``child.time_limits``: Python's signal handlers run in
the main thread only. The main thread decides when, and raises the exception in the task's thread by
``PyThreadState_SetAsyncExc``: it appears between two steps of the body's Python code. A call that blocks, such as
``time.sleep`` or reading from a socket, is not interrupted: the exception is raised when it returns. Nor is
turbo's own code in a compiled build: no exception appears in it before it calls or returns to interpreted code. Guards
are interpreted in every build.

Why it is raised in the body it is meant for, at most once, and nowhere else. Each task has a guard. Its lock covers the
decision and the request to the interpreter. The exception that is requested is a class whose instances are of the real
one; the interpreter makes the instance when it raises, so the guard knows from then on that nothing is pending. A
request that is still pending when the body ends, or when turbo's own code begins inside it (``delay`` writes a ring
record), is taken back there under the same lock: after the body it is dropped, otherwise it is raised when that code
ends. So no lock of the rings is left locked, and the next task of the thread gets nothing. An exception that appears
while the body's end is recorded is the outcome of that task, as in ``child.time_limits``.

A thread that is writing to the log or importing is let finish that first: other threads would wait for ever for the
locks it holds there.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from turbo.child import forked
from turbo.child.time_limits import SoftLimit
from turbo.observers import Observers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from turbo.ring.control_page import ChildPage

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
#: Modules whose functions hold locks that an exception could leave locked.
_LOCKING: Final = ("logging", "importlib._bootstrap", "importlib._bootstrap_external", "turbo.log_format.redirection")


class _Guard:
    """One task: whether its body runs, and what has become of its limit."""

    __slots__ = ("_armed", "_due", "_error", "_ident", "_lock", "_masked", "_pending", "_spent")

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error
        self._lock = threading.Lock()
        #: The thread of the body.
        self._ident = 0
        self._armed = False
        #: Depth of turbo's own code inside the body.
        self._masked = 0
        #: The limit is to be raised as soon as it may be.
        self._due = False
        #: The interpreter was asked to raise it, and has not done so.
        self._pending = False
        #: The limit was raised.
        self._spent = False

    @property
    def armed(self) -> bool:
        """Whether the body runs and may be interrupted."""
        return self._armed

    def arm(self) -> None:
        """The body begins in this thread; raises a limit that has passed before."""
        with self._lock:
            self._ident = threading.get_ident()
            self._masked = 0
            self._armed = True
        self._raise_due()

    def disarm(self) -> None:
        """The body has ended.

        A limit may be raised inside this call, once; then call it again.
        """
        with self._lock:
            self._armed = False
            self._take_back()
            self._due = False

    def mask(self) -> None:
        """Turbo's own code begins inside the body."""
        with self._lock:
            self._masked += 1
            if self._take_back():
                self._due = True

    def unmask(self) -> None:
        """It ends; raises a limit that has passed meanwhile."""
        with self._lock:
            self._masked -= 1
        self._raise_due()

    def expire(self) -> bool:
        """Raise the limit in the body, now or as soon as it may be.

        False if this has to be called again soon. Called by the main thread.
        """
        with self._lock:
            if self._spent or self._pending:
                return True
            if not self._armed or self._masked:
                self._due = True
                return True
            if _holds_locks(sys._current_frames().get(self._ident)):  # noqa: SLF001 - the only way to another's stack
                return False
            self._pending = True
            _set_async_exc(ctypes.c_ulong(self._ident), ctypes.py_object(self._raised()))
            return True

    def _raised(self) -> type[BaseException]:
        """Return a class that the interpreter instantiates when it raises.

        It does so in the task's thread.
        """
        guard, error = self, self._error

        class Raised(error):  # type: ignore[misc, valid-type]
            def __new__(cls, *_: object) -> BaseException:  # type: ignore[misc]
                guard._pending, guard._spent = False, True
                return error()

        return Raised

    def _take_back(self) -> bool:
        """Take a pending exception back; return whether there was one.

        Called by the task's thread.
        """
        if not self._pending:
            return False
        _set_async_exc(ctypes.c_ulong(self._ident), None)
        was, self._pending = self._pending, False
        return was

    def _raise_due(self) -> None:
        if self._due and self._armed and not self._masked:
            self._due, self._spent = False, True
            raise self._error


class ThreadSoftLimits(SoftLimit):
    """The soft limits of all tasks that run in threads of one child."""

    __slots__ = ("_guards", "_here", "on_signal")

    def __init__(self, page: ChildPage) -> None:
        self._here = threading.local()
        super().__init__(page)
        #: By sequence number. Written by the main thread.
        self._guards: dict[int, _Guard] = {}
        #: Called by the handler of SIGUSR1 with the sequence number that the master has named.
        self.on_signal: Observers[int] = Observers()

    def open(self, seq: int) -> None:
        """Expect a task. Called by the main thread before the task's thread knows it."""
        self._guards[seq] = _Guard(self.error)

    def close(self, seq: int) -> None:
        """Forget a task that has ended. Called by the main thread."""
        self._guards.pop(seq, None)

    def expire(self, seq: int) -> bool:
        """Raise the limit of a task; False if this has to be called again soon.

        Called by the main thread.
        """
        guard = self._guards.get(seq)
        return guard is None or guard.expire()

    @property
    def armed(self) -> bool:
        """Whether a body runs in this thread that may be interrupted."""
        guard = self._guard
        return guard is not None and guard.armed

    @property
    def running(self) -> int:
        """The sequence number of this thread's task; 0 outside of a tracer.

        For a body that Celery's tracer calls.
        """
        return getattr(self._here, "running", 0)

    @running.setter
    def running(self, seq: int) -> None:
        self._here.running = seq

    @property
    def _guard(self) -> _Guard | None:
        return getattr(self._here, "guard", None)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.on_signal(self._page.soft_named())

    def call(self, seq: int, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a body that the soft limit of ``seq`` may interrupt."""
        guard = self._here.guard = self._guards[seq]
        try:
            try:
                guard.arm()
                return body(*args, **kwargs)
            finally:
                # The limit may be raised in here, instead of what the body returned or raised. It is raised once, so
                # nothing interrupts the second call.
                guard.disarm()
        except BaseException:
            guard.disarm()
            raise
        finally:
            if self._page.detached:
                # The body forked and returned in the new process too: only the child itself may use the rings.
                forked.leave(sys.exc_info()[1])

    def mask(self) -> None:
        """Enter turbo's own code from within a body; nests."""
        guard = self._guard
        if guard is not None:
            guard.mask()

    def unmask(self) -> None:
        """Leave turbo's own code; raise a deferred limit if its body still runs."""
        guard = self._guard
        if guard is not None:
            guard.unmask()


def _holds_locks(frame: FrameType | None) -> bool:
    """Whether a thread is inside a function that may hold a lock of all threads.

    ``frame`` is its innermost.
    """
    while frame is not None and frame.f_code is not ThreadSoftLimits.call.__code__:
        if frame.f_globals.get("__name__") in _LOCKING:
            return True
        frame = frame.f_back
    return False
