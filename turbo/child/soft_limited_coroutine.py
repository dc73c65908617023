"""A coroutine whose soft limit can be raised inside it: what stands between an asyncio task and a body.

Runs in a child, under ``child.coroutines``. asyncio can only cancel; a body expects SoftTimeLimitExceeded where it
waits, as a body that is a function gets it. So the body is driven by this awaitable, which passes every step on and
turns the one cancellation that the limit asked for into that exception. A body that catches it goes on; any other
cancellation passes as it is. It must never swallow one.

The timer counts the time during which the worker ran: the master says in the control page for how long it did not.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from turbo.exceptions import SoftTimeLimitExceeded
from turbo.policy.time_limits import GRACE_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from turbo.ring.control_page import ChildPage

#: Seconds that a late timer gives the master to say that everything was stopped.
_PATIENCE = 0.5


class SoftLimitedCoroutine:
    """One body, awaited once."""

    __slots__ = ("_body", "_due", "_over")

    def __init__(self, body: Coroutine[Any, Any, Any]) -> None:
        self._body = body
        self._due = False
        self._over = False

    def expire(self, task: asyncio.Task[Any]) -> None:
        """The soft limit of the body that ``task`` runs has passed: raise it where the body waits.

        Once the body is over, its task only waits for what it has to report: nothing may cut that short.
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
                    error = SoftTimeLimitExceeded()
                    task = asyncio.current_task()
                    if task is not None:
                        # The request to cancel is answered: a timeout inside the body must not find it.
                        task.uncancel()
            except BaseException as raised:  # noqa: BLE001 - whatever the awaited thing raises is the body's
                error = raised


class SoftTimer:
    """The timer of one coroutine's soft limit; counts from its making."""

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
        """Do not call."""
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
            # This child was stopped, or kept from its loop by a function: if everything was, the master soon says so.
            self._waited = True
            self._set(_PATIENCE)
        else:
            self._call()
