"""What a process that a task forks starts with: the signals' usual effects, not those that this child gave them.

Runs in a child: made once, before the first task; what it registers runs around every fork of a task's, in the child
and in the new process. A child lets TERM, INT, HUP and QUIT pass and has SIGUSR1 for the soft limit. A process of a
``multiprocessing`` pool that inherited that could not be told to end. It must not touch what a task has set itself.

A signal that arrives in the new process before its dispositions are set right must not be lost: these signals are
blocked across the fork, by the thread that forks, and are pending until then. Programs that a task starts by exec need
nothing of this: exec resets handlers, and nothing is ignored or blocked here.
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

#: The signals whose handlers are this child's own, and what they do in any Python program.
_USUAL: dict[int, Callable[..., Any] | int] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


class UsualSignals:
    """Gives processes forked by tasks the usual signals. One a child; the handlers are those found when it is made."""

    def __init__(self) -> None:
        self._ours = {number: signal.getsignal(number) for number in _USUAL}
        #: The mask before the fork, of the thread that forks.
        self._before = threading.local()

    def register(self) -> None:
        """Do so from now on, in this process and those below it."""
        os.register_at_fork(before=self._block, after_in_parent=self._restore, after_in_child=self._reset)

    def _block(self) -> None:
        self._before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _USUAL)

    def _restore(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before.mask)

    def _reset(self) -> None:
        for number, usual in _USUAL.items():
            if signal.getsignal(number) == self._ours[number]:
                signal.signal(number, usual)
        # Signals of this process are no news for an event loop of its parent's.
        signal.set_wakeup_fd(-1)
        self._restore()


def leave(error: BaseException | None) -> NoReturn:
    """End a process that a task forked and that has come out of the task's body, as any Python program would end.

    ``error`` is what came out, None if it returned. Exit code: that of a SystemExit, 1 after another error, else 0.
    """
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        sys.stderr.write(f"{error.code}\n")
    elif error is not None and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    end_process(0 if error is None else exit_code(error))
