"""Signals to the master: each handler notes a request and wakes the loop, nothing more.

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
    """Have TERM, INT, QUIT and HUP call ``requested``; USR1 dumps all stacks to stderr.

    On a terminal HUP says that its window was closed: it then counts as TERM, as nobody is there for a new worker.
    """
    for number, request in _REQUESTS.items():
        loop.add_signal_handler(number, requested, request)
    loop.add_signal_handler(signal.SIGHUP, requested, Request.TERM if os.isatty(_STDOUT) else Request.HUP)
    loop.add_signal_handler(signal.SIGUSR1, _dump)


def remove(loop: asyncio.AbstractEventLoop, *, restarting: bool = False) -> None:
    """Undo :func:`install`; signals are ignored from here on, since the worker is about to end anyway.

    One that is ``restarting`` has them wait for the new program, but for HUP, which asks for what is being done.
    """
    numbers = (*_REQUESTS, signal.SIGUSR1)
    if restarting:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in (*numbers, signal.SIGHUP):
        loop.remove_signal_handler(number)
        ignored = number == signal.SIGHUP or not restarting
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)


def unblock() -> None:
    """Hear the signals that whoever started this command had blocked: first of all in a command that can be stopped."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def _dump() -> None:
    # Not sys.stderr: an app's logging may have put something there that has no descriptor.
    faulthandler.dump_traceback(sys.__stderr__ or _STDERR, all_threads=True)
