"""The timer of a worker's bootsteps, ``worker.timer``.

It calls functions later, or again and again.

Made by ``native.facade`` in the master, used by the program's bootsteps from any thread. Its one thread starts with the
first call and runs all of them, one at a time. A call that raises is logged, and a repeated one goes on.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger("celery.bootsteps")

#: Seconds that the worker's end waits for a call that runs.
_PATIENCE: Final = 5.0


class Entry:
    """One call, or one repeated call."""

    __slots__ = ("args", "canceled", "every", "fun", "kwargs")

    def __init__(
        self, fun: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None, every: float | None = None
    ) -> None:
        self.fun = fun
        self.args = args
        self.kwargs = dict(kwargs or {})
        #: Seconds between the starts of two calls; None: called once.
        self.every = every
        self.canceled = False

    def cancel(self) -> None:
        """Call no more."""
        self.canceled = True

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self.canceled

    def __call__(self) -> Any:
        """Call the function."""
        return self.fun(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"<TimerEntry: {getattr(self.fun, '__qualname__', self.fun)}(*{self.args!r}, **{self.kwargs!r})>"


class Timer:
    """A timer and its thread.

    Times are seconds; where priorities differ, the higher one is called first.
    """

    def __init__(self) -> None:
        self._wake = threading.Condition()
        #: When (monotonic), less the priority, and the order of the additions. Under the lock.
        self._due: list[tuple[float, int, int, Entry]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def call_after(
        self, secs: float, fun: Callable[..., Any], args: Sequence[Any] = (), kwargs: Any = None, priority: int = 0
    ) -> Entry:
        """Call ``fun`` once, in ``secs`` seconds."""
        return self._enter(secs, Entry(fun, args, kwargs), priority)

    def call_at(
        self, eta: Any, fun: Callable[..., Any], args: Sequence[Any] = (), kwargs: Any = None, priority: int = 0
    ) -> Entry:
        """Call ``fun`` once at ``eta``, a datetime or a Unix time."""
        when = eta.timestamp() if isinstance(eta, datetime) else eta
        return self._enter(when - time.time(), Entry(fun, args, kwargs), priority)

    def call_repeatedly(
        self, secs: float, fun: Callable[..., Any], args: Sequence[Any] = (), kwargs: Any = None, priority: int = 0
    ) -> Entry:
        """Call ``fun`` every ``secs`` seconds, first in so many."""
        return self._enter(secs, Entry(fun, args, kwargs, every=secs), priority)

    def cancel(self, tref: Entry) -> None:
        """Cancel a call."""
        tref.cancel()

    def clear(self) -> None:
        """Cancel all calls."""
        with self._wake:
            self._due.clear()

    def stop(self) -> None:
        """Cancel all calls and end the thread; wait for the call that runs."""
        with self._wake:
            self._stopped = True
            self._due.clear()
            self._wake.notify()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE)

    def _enter(self, seconds: float, entry: Entry, priority: int) -> Entry:
        with self._wake:
            if self._stopped:
                entry.cancel()
                return entry
            self._push(time.monotonic() + max(seconds, 0.0), priority, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="timer", daemon=True)
                self._thread.start()
            self._wake.notify()
        return entry

    def _push(self, when: float, priority: int, entry: Entry) -> None:
        heapq.heappush(self._due, (when, -priority, next(self._numbers), entry))

    def _run(self) -> None:
        while (found := self._next()) is not None:
            when, priority, entry = found
            try:
                entry()
            except Exception:
                logger.exception("The timer's call %r raised", entry)
            if entry.every is not None and not entry.canceled:
                with self._wake:
                    if not self._stopped:
                        # After a pause of the machine, or a slow call, what was missed is left out.
                        self._push(max(when + entry.every, time.monotonic()), priority, entry)

    def _next(self) -> tuple[float, int, Entry] | None:
        """Wait for the next call; None at the end."""
        with self._wake:
            while not self._stopped:
                while self._due and self._due[0][3].canceled:
                    heapq.heappop(self._due)
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is not None and left <= 0:
                    when, less, _, entry = heapq.heappop(self._due)
                    return when, -less, entry
                self._wake.wait(left)
        return None
