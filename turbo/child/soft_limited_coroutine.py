"""Drives a coroutine so that its soft limit can be raised inside it.

Runs in a child, under ``child.parallel``, between an asyncio task and the body. asyncio can only cancel, but a body
expects SoftTimeLimitExceeded where it waits, as a function does. So this awaitable drives the body: it passes every
step on, and turns the one cancellation that the limit requested into that exception. A body that catches it goes on;
any other cancellation passes unchanged. It must never swallow a cancellation.

The timer counts only time in which the worker ran: the master writes into the control page for how long it was stopped.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from turbo.policy.time_limits import GRACE_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from turbo.ring.control_page import ChildPage

#: Seconds that a late timer gives the master to report that the whole worker was stopped.
_PATIENCE = 0.5


class SoftLimitedCoroutine:
    """One body, awaited once."""

    __slots__ = ("_body", "_due", "_error", "_over")

    def __init__(self, body: Coroutine[Any, Any, Any], error: type[BaseException]) -> None:
        """``error`` is raised for the limit."""
        self._body = body
        self._error = error
        self._due = False
        self._over = False

    def expire(self, task: asyncio.Task[Any]) -> None:
        """Raise the soft limit where the body that ``task`` runs waits.

        Does nothing once the body is over: its task then reports its outcome, which must not be interrupted.
        """
        if self._over:
            return
        self._due = True
        task.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive the body to its end; returns what it returns and raises what it raises."""
        try:
            return (yield from self._drive())
        finally:
            self._over = True

    def _drive(self) -> Generator[Any, Any, Any]:
        body = self._body
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited_for = body.send(value) if error is None else body.throw(error)
            except StopIteration as end:
                return end.value
            value = error = None
            try:
                value = yield waited_for
            except asyncio.CancelledError as cancelled:
                error = cancelled
                if self._due:
                    self._due = False
                    error = self._error()
                    task = asyncio.current_task()
                    if task is not None:
                        # Clear the cancellation request: a timeout inside the body must not see it.
                        task.uncancel()
            except BaseException as raised:  # noqa: BLE001 - whatever the awaited thing raises is the body's
                error = raised


class SoftTimer:
    """The timer of one task's soft limit; it counts from its construction."""

    __slots__ = ("_call", "_due", "_end", "_handle", "_loop", "_page", "_stopped", "_waited")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, page: ChildPage, limit: float, call: Callable[[], None]
    ) -> None:
        """Call ``call`` once, when the worker has run for ``limit`` seconds from now."""
        self._loop = loop
        self._page = page
        self._call = call
        self._end = time.monotonic_ns() + int(limit * 1e9)
        self._stopped = page.stopped_ns()
        self._waited = False
        self._set(limit)

    def cancel(self) -> None:
        """Cancel the call."""
        self._handle.cancel()

    def _set(self, seconds: float) -> None:
        self._due = time.monotonic_ns() + int(seconds * 1e9)
        self._handle = self._loop.call_later(seconds, self._wake)

    def _wake(self) -> None:
        now = time.monotonic_ns()
        left = self._end + self._page.stopped_ns() - self._stopped - now
        if left > 0:
            self._waited = False
            self._set(left / 1e9)
        elif now - self._due > GRACE_NS and not self._waited:
            # Either this child was stopped or a function blocked its loop. If the whole worker was stopped, the master
            # reports it soon.
            self._waited = True
            self._set(_PATIENCE)
        else:
            self._call()
