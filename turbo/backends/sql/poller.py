"""Waits for many results in a database in one thread, by polling.

Made by ``sql.client``, in clients. A database does not notify of results, and every waiter for itself would send a
query per result and interval. So one thread per process asks for the states of all watched tasks together, reads the
documents of those that have ended, and calls back. The pause between two rounds is short after results have arrived,
and grows to ``LONGEST_PAUSE`` while none do. The thread starts with the first result and ends some seconds after the
last. A forked process starts empty: the thread and the callbacks belong to the parent.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Final

from turbo.exceptions import OperationalError, SerializationError
from turbo.policy.restarts import reconnect_delay
from turbo.states import FAILURE, READY_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.backends.reader import Meta

logger = logging.getLogger(__name__)

#: Seconds between two rounds: at first, and at most.
SHORTEST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5
#: Maximum number of tasks in one query.
_TOGETHER: Final = 500
#: Seconds without any watched task after which the thread ends.
_LINGER: Final = 5.0


def next_pause(pause: float, longest: float = LONGEST_PAUSE) -> float:
    """Return the pause after one of ``pause`` seconds in which nothing arrived."""
    return min(max(pause * 1.5, SHORTEST_PAUSE), longest)


class Poller:
    """One thread and the tasks that it watches."""

    def __init__(self, ended: Callable[[Sequence[str]], list[str]], read: Callable[[str], Meta]) -> None:
        """``ended`` returns those of the given ids that have ended, ``read`` a document.

        Both raise OperationalError.
        """
        self._ended = ended
        self._read = read
        self.reset()

    def reset(self) -> None:
        """Drop all state, as needed after a fork."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watched: dict[str, list[Callable[[Meta], object]]] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once, in the thread, with the final document.

        Returns a cancelling function.
        """
        if self._pid != os.getpid():
            self.reset()
        with self._lock:
            self._watched.setdefault(task_id, []).append(found)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="turbo-results", daemon=True)
                self._thread.start()
        self._wake.set()

        def cancel() -> None:
            with self._lock:
                waiting = self._watched.get(task_id, [])
                if found in waiting:
                    waiting.remove(found)
                    if not waiting:
                        del self._watched[task_id]

        return cancel

    def close(self) -> None:
        """End the thread and cancel all callbacks."""
        self._closed = True
        self._wake.set()
        with self._lock:
            self._watched.clear()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread() and self._pid == os.getpid():
            thread.join()

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._poll()
        finally:
            # After an unexpected error, which Python prints, the next watch starts another thread for all.
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _poll(self) -> None:
        failures = 0
        pause = SHORTEST_PAUSE
        busy = time.monotonic()
        while not self._closed:
            try:
                pause = SHORTEST_PAUSE if self._round() else next_pause(pause)
                failures = 0
            except OperationalError as error:
                failures += 1
                pause = reconnect_delay(failures, random.random())
                logger.warning("The database failed while waiting for results; trying again: %s", error)
            with self._lock:
                if self._watched:
                    busy = time.monotonic()
                elif time.monotonic() - busy > _LINGER:
                    self._thread = None
                    return
            # A new task ends a long pause, but not a short one: rounds that follow too closely would load the database.
            if pause > SHORTEST_PAUSE and self._wake.wait(pause):
                pause = SHORTEST_PAUSE
            self._wake.clear()
            time.sleep(SHORTEST_PAUSE)

    def _round(self) -> bool:
        """Look for all watched tasks; return whether one has ended."""
        with self._lock:
            ids = list(self._watched)
        any_ended = False
        for start in range(0, len(ids), _TOGETHER):
            for task_id in self._ended(ids[start : start + _TOGETHER]):
                any_ended = True
                self._found(task_id)
        return any_ended

    def _found(self, task_id: str) -> None:
        try:
            meta = self._read(task_id)
        except SerializationError as error:
            # Report the error to the callbacks of this task only, so that other results still arrive.
            meta = {"status": FAILURE, "result": error, "traceback": None, "children": None}
        if meta["status"] not in READY_STATES:
            return  # Deleted or run again since.
        with self._lock:
            waiting = self._watched.pop(task_id, [])
        for found in waiting:
            try:
                found(dict(meta))
            except Exception:
                logger.exception("The callback for the result of task %s raised", task_id)
