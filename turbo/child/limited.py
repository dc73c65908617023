"""A coroutine whose soft limit can be raised inside it: what stands between an asyncio task and a body.

Runs in a child, under ``child.coroutines``. asyncio can only cancel; a body expects SoftTimeLimitExceeded where it
waits, as a body that is a function gets it. So the body is driven by this awaitable, which passes every step on and
turns the one cancellation that the limit asked for into that exception. A body that catches it goes on; any other
cancellation passes as it is. It must never swallow one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turbo.exceptions import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Limited:
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
