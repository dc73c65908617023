"""The request that beat ends: a signal, or the end of the process that started it.

Made by the command, awaited by ``beat.service`` wherever it waits. Its signal handler writes one byte and does nothing
else.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether beat is to end.

    ``lifeline`` is a descriptor whose end of file asks for that too.
    """

    def __init__(self, lifeline: int | None = None) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watched = [self._read] if lifeline is None else [self._read, lifeline]

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as the request."""
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """Ask beat to end; for signal handlers and other threads too."""
        try:
            os.write(self._write, b"x")
        except BlockingIOError:
            # The pipe is full of requests.
            return

    def wait(self, seconds: float) -> bool:
        """Wait until beat is to end, at most so long; return whether it is."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            # Nothing is read: once asked, every later wait returns at once. The lifeline never carries data.
            if select.select(self._watched, (), (), left)[0]:
                return True
            if left == 0.0:
                return False
