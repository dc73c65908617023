"""The soft time limit: raises SoftTimeLimitExceeded in one body only.

Runs in a child. ``master.children.time_limits`` decides when: it writes a sequence number into the control page and
then sends SIGUSR1. The argument, step by step:

* ``_armed`` holds the sequence number of the body that may be interrupted, 0 outside of bodies. It is set inside the
  innermost ``try`` and cleared in that ``try``'s ``finally``. The executor's outer ``try``, which turns every exception
  into an outcome, opens before and closes after. So an exception that the handler raises at any point where ``_armed``
  is set ends in the outcome of that task.
* The handler clears ``_armed`` before it raises: at most one raise per task.
* A late signal finds ``_armed`` 0, or another number than the control page names, and returns. Only the master writes
  the page's word, and numbers are never reused.
* While turbo's own code runs inside a body (``delay`` writes a ring record), ``_masked`` is above 0. The handler then
  only notes the number, and :meth:`SoftLimit.unmask` raises if that body still runs.
* In a compiled build this module stays interpreted, and so are bodies. Python calls a handler only between instructions
  of interpreted code, and in system calls that a signal interrupts; compiled code raises what it gets from them. So the
  places where the handler can raise are some of those of the pure build, and the words are set and cleared as above. It
  can come later: the first interpreted instruction after a compiled function has returned.

The master does not share these words; they are local to the process. A body that swallows the exception, or blocks in
C code, is left to the hard limit. The limit must never be raised outside of a body.
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
    """The signal handler and its three words."""

    __slots__ = ("_armed", "_deferred", "_masked", "_page", "error", "running")

    def __init__(self, page: ChildPage, error: type[BaseException] = SoftTimeLimitExceeded) -> None:
        self._page = page
        self._armed = 0
        self._masked = 0
        self._deferred = 0
        #: The exception to raise; an adopted app's tasks expect Celery's class.
        self.error = error
        #: The sequence number of the task, for a body that Celery's tracer calls; 0 outside of the tracer.
        self.running = 0

    @property
    def armed(self) -> bool:
        """Whether a body is running that may be interrupted."""
        return bool(self._armed)

    def install(self) -> None:
        """Handle SIGUSR1.

        Called again before each limited task: a body may have changed the handler or blocked it.
        """
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
        """Run a body that ``seq``'s soft limit may interrupt; record that it began.

        The record is in the control page.
        """
        self._masked = self._deferred = 0
        try:
            self._armed = seq
            self._page.begin_body(seq)
            return body(*args, **kwargs)
        finally:
            self._armed = 0
            if self._page.detached:
                # The body forked and returned in the new process too: only the child itself may use the rings.
                forked.leave(sys.exc_info()[1])

    def mask(self) -> None:
        """Enter turbo's own code from within a body; nests."""
        self._masked += 1

    def unmask(self) -> None:
        """Leave turbo's own code; raise a deferred limit if its body still runs."""
        self._masked -= 1
        if not self._masked and self._deferred:
            deferred, self._deferred = self._deferred, 0
            if deferred == self._armed:
                self._armed = 0
                raise self.error
