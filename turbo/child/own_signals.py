"""Restores signal handlers and mask after a task that has changed them.

Runs in a child, under ``child.loop``, whenever nothing can be claimed. A body may block signals or set handlers and
leave them so. Then the limits of later tasks would have no effect, and TERM to the whole group would end tasks. Before
each task with a limit ``child.time_limits`` restores its own signal. It must never be called while a task runs.
"""

from __future__ import annotations

import signal
from time import monotonic_ns
from typing import Final

#: The signals that a child handles.
_HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
#: Nanoseconds between two checks.
_PAUSE_NS: Final = 2_000_000


class OwnSignals:
    """Signal mask and handlers as they are when this is made.

    The receivers of ``worker_process_init`` have run by then.
    """

    __slots__ = ("_handlers", "_looked_ns", "_mask")

    def __init__(self) -> None:
        self._looked_ns = 0
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = tuple((number, signal.getsignal(number)) for number in _HANDLED)

    def restore(self) -> None:
        """Undo what a task has changed.

        Pending signals are delivered now, while no task runs. A check costs as much as a short task, so there are no
        two within :data:`_PAUSE_NS`.
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
