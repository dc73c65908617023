"""The soft time limit: raises SoftTimeLimitExceeded in the body it is meant for, and nowhere else.

Runs in a child. ``master.children.time_limits`` decides when; it names a sequence number in the control page and then
sends SIGUSR1. The argument, step by step:

* ``_armed`` holds the sequence number of the body that may be interrupted, 0 outside of bodies. It is set inside
  the innermost ``try`` and cleared in that ``try``'s ``finally``; the executor's outer ``try``, which turns whatever
  comes out into an outcome, opens before and closes after. So an exception raised by the handler at any point where
  ``_armed`` is set ends in the outcome of that task.
* The handler clears ``_armed`` before it raises: at most one raise a task.
* A signal that comes late finds ``_armed`` 0 or another number than the page names, and returns. The page's word
  is written by the master alone, and numbers never return.
* While code of turbo's own runs inside a body (``delay`` writes a ring record), ``masked`` is up: the handler only
  notes the number, and :meth:`unmask` raises it if that body still runs.

The master has no share in these words; they are process-local. A body that swallows the exception, or sits in C
code, is left to the hard limit.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from turbo.child import forked
from turbo.exceptions import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from turbo.ring.control_page import ChildPage

_SOFT = (signal.SIGUSR1,)


class SoftLimit:
    """The handler and the three words it lives by."""

    __slots__ = ("_armed", "_deferred", "_masked", "_page", "error", "running")

    def __init__(self, page: ChildPage, error: type[BaseException] = SoftTimeLimitExceeded) -> None:
        self._page = page
        self._armed = 0
        self._masked = 0
        self._deferred = 0
        #: What is raised; an adopted app's tasks expect their own library's class.
        self.error = error
        #: The sequence number for a body that is called deep inside another library's code; 0 outside of it.
        self.running = 0

    @property
    def armed(self) -> bool:
        """Whether a body runs that may be interrupted."""
        return bool(self._armed)

    def install(self) -> None:
        """Take SIGUSR1; again before each limited task, since a body may have its own handler there, or block it."""
        if signal.getsignal(signal.SIGUSR1) != self._handle:
            signal.signal(signal.SIGUSR1, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SOFT)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        armed = self._armed
        if not armed or self._page.soft_named() != armed:
            return
        if self._masked:
            self._deferred = armed
            return
        self._armed = 0
        raise self.error

    def call(self, seq: int, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a body that the soft limit of ``seq`` may interrupt; if its child dies now, it has begun."""
        self._masked = self._deferred = 0
        try:
            self._armed = seq
            self._page.begin_body(seq)
            return body(*args, **kwargs)
        finally:
            self._armed = 0
            if self._page.detached:
                # The body forked and came back in the new process as well; only one may go on with the rings.
                forked.leave(sys.exc_info()[1])

    def mask(self) -> None:
        """Enter code of turbo's own from within a body; nests."""
        self._masked += 1

    def unmask(self) -> None:
        """Leave it again; raises what was held back if its body still runs."""
        self._masked -= 1
        if not self._masked and self._deferred:
            deferred, self._deferred = self._deferred, 0
            if deferred == self._armed:
                self._armed = 0
                raise self.error
