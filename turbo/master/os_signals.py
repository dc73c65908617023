"""Signals to the master: each handler notes a request and wakes the loop.

It does nothing more.

Runs in the master. uvloop calls these handlers from the loop itself (the C handler only writes a byte to its wake
pipe), so they may call into the lifecycle; they never raise, wait or kill. What a request means in each phase is
``policy.worker_lifecycle``'s table.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import TYPE_CHECKING

from turbo.policy.worker_lifecycle import Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_STDOUT, _STDERR = 1, 2
_REQUESTS = {signal.SIGTERM: Request.TERM, signal.SIGINT: Request.INT, signal.SIGQUIT: Request.QUIT}


def install(loop: asyncio.AbstractEventLoop, requested: Callable[[Request], None]) -> None:
    """Call ``requested`` for TERM, INT, QUIT and HUP.

    Dump all stacks to stderr for USR1. On a terminal, HUP means that its window was closed. It then counts as TERM,
    since a new worker would have no user.
    """
    for number, request in _REQUESTS.items():
        loop.add_signal_handler(number, requested, request)
    loop.add_signal_handler(signal.SIGHUP, requested, Request.TERM if os.isatty(_STDOUT) else Request.HUP)
    loop.add_signal_handler(signal.SIGUSR1, _dump)


def remove(loop: asyncio.AbstractEventLoop, *, restarting: bool = False) -> None:
    """Undo :func:`install` and ignore the signals, since the worker is about to end.

    When ``restarting``, they stay pending for the new program, except HUP, which asks for the restart itself.
    """
    numbers = (*_REQUESTS, signal.SIGUSR1)
    if restarting:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in (*numbers, signal.SIGHUP):
        loop.remove_signal_handler(number)
        ignored = number == signal.SIGHUP or not restarting
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)


def unblock() -> None:
    """Unblock all signals.

    A command that can be stopped calls it first, in case its parent blocked them.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def _dump() -> None:
    # Not sys.stderr: an app's logging may have replaced it by an object without a descriptor.
    faulthandler.dump_traceback(sys.__stderr__ or _STDERR, all_threads=True)
