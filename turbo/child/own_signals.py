"""The signals as this child has them between tasks, put back after a task that has changed them.

Runs in a child, under ``child.loop``, whenever nothing can be claimed. A body may block signals or take their handlers
for itself, and leave it so: then the limits of later tasks would never be heard, and TERM to the whole group would end
tasks. Before each task with a limit ``child.time_limits`` sees to its own signal. It must not run while a task does.
"""

from __future__ import annotations

import signal
from time import monotonic_ns
from typing import Final

#: The signals that mean something to a child.
_MEANT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
#: Nanoseconds.
_PAUSE_NS: Final = 2_000_000


class OwnSignals:
    """Mask and handlers as they are when it is made: after the app's receivers of the process's start."""

    __slots__ = ("_handlers", "_looked_ns", "_mask")

    def __init__(self) -> None:
        self._looked_ns = 0
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = tuple((number, signal.getsignal(number)) for number in _MEANT)

    def put_back(self) -> None:
        """Undo what a task has changed. What was pending meanwhile is heard now, when no task is there to be hit.

        A look costs as much as a short task, so there are no two within :data:`_PAUSE_NS`.
        """
        now = monotonic_ns()
        if now - self._looked_ns < _PAUSE_NS:
            return
        self._looked_ns = now
        for number, handler in self._handlers:
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
