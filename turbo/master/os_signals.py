"""Signals to the master: each handler notes a request and wakes the loop, nothing more.

Runs in the master. uvloop calls these handlers from the loop itself (the C handler only writes a byte to its wake
pipe), so they may call into the lifecycle; they never raise, wait or kill. What a request means in each phase is
``policy.worker_lifecycle``'s table.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from typing import TYPE_CHECKING

from turbo.policy.worker_lifecycle import Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_STDERR = 2
_REQUESTS = {signal.SIGTERM: Request.TERM, signal.SIGINT: Request.INT, signal.SIGQUIT: Request.QUIT}


def install(loop: asyncio.AbstractEventLoop, requested: Callable[[Request], None]) -> None:
    """Have TERM, INT and QUIT call ``requested``; HUP counts as TERM; USR1 dumps all stacks to stderr."""
    for number, request in _REQUESTS.items():
        loop.add_signal_handler(number, requested, request)
    loop.add_signal_handler(signal.SIGHUP, requested, Request.TERM)
    loop.add_signal_handler(signal.SIGUSR1, _dump)


def remove(loop: asyncio.AbstractEventLoop) -> None:
    """Undo :func:`install`; signals are ignored from here on, since the worker is about to end anyway."""
    for number in (*_REQUESTS, signal.SIGHUP, signal.SIGUSR1):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _dump() -> None:
    # Not sys.stderr: an app's logging may have put something there that has no descriptor.
    faulthandler.dump_traceback(sys.__stderr__ or _STDERR, all_threads=True)
