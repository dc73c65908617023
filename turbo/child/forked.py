"""Resets the signals of processes that a task forks to Python's defaults.

Runs in a child: made once, before the first task; its hooks run around every fork by a task, in the child and in the
new process. A child ignores TERM, INT, HUP and QUIT and uses SIGUSR1 for the soft limit. A process of a
``multiprocessing`` pool that inherited those handlers could not be told to end. It must never change a handler that a
task has set itself.

A signal that arrives in the new process before its handlers are reset must not be lost: these signals are blocked
across the fork, in the thread that forks, and stay pending until then. Programs that a task starts by exec need none of
this: exec resets handlers, and no signal is ignored or blocked here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from turbo.child.leaving import end_process, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

#: The signals whose handlers are this child's own, with Python's default for each.
_USUAL: dict[int, Callable[..., Any] | int] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


class UsualSignals:
    """Resets signals in processes forked by tasks.

    One per child; remembers the handlers set when it is made.
    """

    def __init__(self) -> None:
        self._ours = {number: signal.getsignal(number) for number in _USUAL}
        #: The mask before the fork, of the thread that forks.
        self._before = threading.local()

    def register(self) -> None:
        """Install the fork hooks in this process and its descendants."""
        os.register_at_fork(before=self._block, after_in_parent=self._restore, after_in_child=self._reset)

    def _block(self) -> None:
        self._before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _USUAL)

    def _restore(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before.mask)

    def _reset(self) -> None:
        for number, usual in _USUAL.items():
            if signal.getsignal(number) == self._ours[number]:
                signal.signal(number, usual)
        # The parent's event loop must not be woken by signals of this process.
        signal.set_wakeup_fd(-1)
        self._restore()


def leave(error: BaseException | None) -> NoReturn:
    """End a process that a task forked and that left the task's body.

    It ends as any Python program does. ``error`` is the exception that left the body, None if it returned. The exit
    code is that of a SystemExit, 1 after another error, else 0.
    """
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        sys.stderr.write(f"{error.code}\n")
    elif error is not None and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    end_process(0 if error is None else exit_code(error))
