"""Threads that run one call after another, started when they are needed.

Runs in a child, under ``child.parallel``. They are daemons: a call that never returns does not keep the process. It
must never run two calls in one thread at once, nor start more threads than there may be.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """A fixed number of threads. One thread of the child gives them calls."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        #: How many threads wait for a call.
        self._idle = threading.Semaphore(0)

    def run(self, call: Callable[[], None]) -> None:
        """Run ``call`` in an idle thread, a new one, or the next idle one.

        It raises nothing.
        """
        self._calls.put(call)
        if self._idle.acquire(blocking=False) or self._started == self._most:
            return
        self._started += 1
        threading.Thread(target=self._serve, name=f"TaskThread-{self._started}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._calls.get()()
            self._idle.release()
