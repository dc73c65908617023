"""Signals to ``turbo worker`` before the master's loop handles them.

The command goes through three steps, each with its own handlers:

- *Importing the app:* TERM, INT and QUIT end the process as they end any other. Nothing has to be cleaned up, and an
  import that hangs in C code ends too.
- *Setting up*, from the pidfile on: they raise ``StopAsked``; the process cleans up, and ends by the signal.
- *Starting* the processes: they are noted, and the master carries them out as soon as its loop runs.

HUP, which restarts a worker, is noted from the beginning. USR1 prints stacks all the time
(``os_signals.dump_on_request``).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from turbo.master import os_signals

if TYPE_CHECKING:
    from types import FrameType

    from turbo.policy.worker_lifecycle import Request

_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: What a shell adds to the number of the signal that ended a program.
_ENDED_BY: Final = 128


class StopAsked(BaseException):
    """A signal asked the worker to end while it was being set up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class EarlySignals:
    """The handlers of one command."""

    def __init__(self) -> None:
        #: What was asked for, oldest first. Written by the handlers.
        self.noted: list[Request] = []
        self._meaning = os_signals.requests()
        self._before: dict[int, Any] = {}

    def importing(self) -> None:
        """Before the app is imported."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL and not os_signals.has_terminal():
            signal.signal(signal.SIGHUP, self._note)
        for number in _STOPS if os.getpid() == 1 else ():
            # The kernel does not end process 1 of a container by a signal without a handler.
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit)

    def setting_up(self) -> None:
        """Before there is something to clean up."""
        for number in _STOPS:
            self._before[number] = signal.signal(number, self._raise)

    def starting(self) -> None:
        """Before the first process is forked."""
        for number in self._meaning:
            signal.signal(number, self._note)

    def end_by(self, number: int) -> None:
        """End the process by a signal, after the clean-up.

        Returns if a handler of the program itself lets the process live.
        """
        for each, handler in self._before.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)
        if os.getpid() == 1 and signal.getsignal(number) is signal.SIG_DFL:
            _exit(number, None)
        signal.raise_signal(number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.noted.append(self._meaning[signal.Signals(number)])

    def _raise(self, number: int, _frame: FrameType | None) -> None:
        for each in _STOPS:
            # Nothing shall interrupt the clean-up.
            signal.signal(each, signal.SIG_IGN)
        raise StopAsked(number)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_ENDED_BY + number)
