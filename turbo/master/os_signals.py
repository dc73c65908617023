"""Signals to the master: each handler passes a request to the loop.

Runs in the master. Python calls these handlers in the main thread; the loop is woken and calls into the lifecycle. They
never raise, wait or kill. What a request means in each phase is ``policy.worker_lifecycle``'s table. From the start of
the command to its last instruction no signal that is handled here has its default action for a moment: the handlers are
replaced by each other, or by ignoring. For the time before the loop see ``cli.early_signals``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from turbo.policy.worker_lifecycle import Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from types import FrameType

_STDOUT, _STDERR = 1, 2
_REQUESTS = {signal.SIGTERM: Request.TERM, signal.SIGINT: Request.INT, signal.SIGQUIT: Request.QUIT}


def has_terminal() -> bool:
    """Return whether standard output is a terminal.

    HUP then means that its window was closed. It counts as TERM, since a new worker would have no user.
    """
    return os.isatty(_STDOUT)


def requests() -> dict[signal.Signals, Request]:
    """Return what the signals that stop or restart a worker ask for."""
    return {**_REQUESTS, signal.SIGHUP: Request.TERM if has_terminal() else Request.HUP}


def dump_on_request() -> None:
    """Dump all stacks to stderr for USR1.

    Does nothing if the program has a handler of its own.
    """
    if _in_main_thread() and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        _register_dump()


def install(loop: asyncio.AbstractEventLoop, requested: Callable[[Request], None]) -> None:
    """Call ``requested`` for TERM, INT, QUIT and HUP.

    Dump all stacks to stderr for USR1.
    """
    meaning = requests()

    def handle(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(requested, meaning[signal.Signals(number)])

    # Not the loop's own handlers: removing one leaves the default action for a moment, which ends the process.
    for number in meaning:
        signal.signal(number, handle)
    _register_dump()


def remove(*, restarting: bool = False) -> None:
    """Undo :func:`install` and ignore the signals.

    The worker is about to end. When ``restarting``, they stay pending for the new program, except HUP, which asks for
    the restart itself.
    """
    numbers = (*_REQUESTS, signal.SIGUSR1)
    if restarting:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in (*numbers, signal.SIGHUP):
        ignored = number == signal.SIGHUP or not restarting
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)


def unblock() -> None:
    """Unblock all signals.

    A command that can be stopped calls it first, in case its parent blocked them.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Restore handlers and mask afterwards.

    For a program that goes on after its worker.
    """
    if not _in_main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (*_REQUESTS, signal.SIGHUP, signal.SIGUSR1)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGUSR1)
        for number, handler in handlers.items():
            # None is a handler of C code, which cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_main_thread() -> bool:
    """Return whether this thread can change handlers."""
    return threading.current_thread() is threading.main_thread()


def _register_dump() -> None:
    """Let C code dump the stacks.

    It also works while an import or the loop hangs.
    """
    faulthandler.unregister(signal.SIGUSR1)
    # The end of the interpreter puts back what was there before, which must not be the default action. The same is
    # called after each dump.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Only a handler that is chained restores errno: otherwise a system call that fails at that moment raises
    # OSError with errno 0, which no program expects.
    # Not sys.stderr: an app's logging may have replaced it by an object without a descriptor.
    faulthandler.register(signal.SIGUSR1, file=sys.__stderr__ or _STDERR, all_threads=True, chain=True)
