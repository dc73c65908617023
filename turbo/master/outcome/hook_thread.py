"""Runs the app's hooks in the master on a thread of their own, one after another.

Runs in the master, for the outcome hooks; ``control.service`` has another one for the app's commands. Apart from log
handlers, user code runs nowhere else in the master. An exception is logged. A call that takes longer than
:data:`PATIENCE` is logged with its stack and abandoned: it keeps its thread, and a new thread takes over the queue.
Time in which the worker was stopped does not count, as with time limits. The loop must never wait for a call, and no
thread may start before the process's last fork.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from turbo.policy.time_limits import RunningClock

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Default seconds after which a call is abandoned.
PATIENCE = 10.0


class _Call:
    """One call and its callback."""

    __slots__ = ("call", "ended", "given_up", "name", "then")

    def __init__(self, name: str, call: Callable[[], Any], then: Callable[[Any], None] | None) -> None:
        self.name = name
        self.call = call
        self.then = then
        #: At most one of the next two is ever set, under the lock: ``ended`` by the thread, ``given_up`` by the loop.
        self.ended = False
        self.given_up = False


class HookThread:
    """A queue of calls and the thread that runs them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience: float = PATIENCE,
        tidy: Callable[[], None] | None = None,
    ) -> None:
        """``patience`` in seconds.

        ``tidy`` runs on the thread after each call, within the call's time.
        """
        self._loop = loop
        self._patience = patience
        self._tidy = tidy
        self._queue: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        #: Held only while a call is marked as ended or given up, never during a call.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._watch: asyncio.TimerHandle | None = None
        self._clock = RunningClock()
        #: Deadline of the running call, in nanoseconds of the running clock.
        self._due = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, name: str, call: Callable[[], Any], then: Callable[[Any], None] | None = None) -> None:
        """Run ``call`` on the thread, then ``then`` on the loop with its result.

        ``then`` gets None when the call raised or was given up.
        """
        if self._thread is None:
            self._begin_thread()
        self._waiting += 1
        self._idle.clear()
        self._queue.put(_Call(name, call, then))

    async def drain(self, deadline: float) -> bool:
        """Wait until every call has been answered.

        False at the deadline (monotonic seconds).
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    # -- the thread --------------------------------------------------------------------------------------

    def _begin_thread(self) -> None:
        # A daemon thread: a receiver that never returns must not keep the worker from ending.
        thread = threading.Thread(target=self._work, name="app-hooks", daemon=True)
        self._thread = thread
        thread.start()

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            call = self._queue.get()
            self._tell(self._began, me, call)
            value = None
            try:
                value = call.call()
            except (Exception, SystemExit):
                logger.exception("%s raised", call.name)
            if self._tidy is not None:
                self._tidied(call)
            with self._lock:
                call.ended = True
                if call.given_up:
                    return  # a new thread has the queue, and the caller has its answer
            self._tell(self._answer, call, value)

    def _tidied(self, call: _Call) -> None:
        try:
            assert self._tidy is not None
            self._tidy()
        except (Exception, SystemExit):
            logger.exception("Tidying up after %s raised", call.name)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            logger.debug("The worker ended before its last hook")

    # -- on the loop -------------------------------------------------------------------------------------

    def _began(self, thread: threading.Thread, call: _Call) -> None:
        self._due = time.monotonic_ns() - self._clock.stopped + int(self._patience * 1e9)
        self._wait(thread, call)

    def _wait(self, thread: threading.Thread, call: _Call) -> None:
        now = time.monotonic_ns()
        wait = self._clock.timer(self._due, now)
        self._watch = self._loop.call_later(wait / 1e9, self._look, thread, call)
        self._clock.ask(now, wait)

    def _look(self, thread: threading.Thread, call: _Call) -> None:
        now = time.monotonic_ns()
        self._clock.look(now)
        if now - self._clock.stopped < self._due:
            self._wait(thread, call)
        else:
            self._give_up(thread, call)

    def _give_up(self, thread: threading.Thread, call: _Call) -> None:
        with self._lock:
            if call.ended:
                return  # its answer is on its way, and the thread continues with the next call
            call.given_up = True
        frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way to another's stack
        where = "".join(traceback.format_stack(frame)) if frame is not None else "(gone)"
        logger.error(
            "%s takes longer than %g s; the worker goes on without it. It is at:\n%s", call.name, self._patience, where
        )
        # Answer first: the caller may cancel later calls. The old thread ends when its call returns.
        self._answer(call, None)
        self._begin_thread()

    def _answer(self, call: _Call, value: Any) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()
        if call.then is not None:
            call.then(value)


class WaitedReceivers:
    """Receivers of a signal that messages wait for.

    After one hangs, none is called again.
    """

    def __init__(self, hooks: HookThread, name: str) -> None:
        """``name``: the signal's name, for the log."""
        self._hooks = hooks
        self._name = name
        #: Whether a receiver hung; every further message would wait as long.
        self.hung = False

    def run(self, call: Callable[[], Any], then: Callable[[], None]) -> None:
        """Run ``call`` on the thread, then ``then`` on the loop even if the call failed."""
        ended = []

        def guarded() -> None:
            try:
                if not self.hung:
                    call()
            finally:
                ended.append(True)

        def answered(_value: object) -> None:
            if not ended and not self.hung:
                self.hung = True
                logger.error("%s is not sent any more: one of its receivers does not return", self._name)
            then()

        self._hooks.submit(f"A receiver of {self._name}", guarded, answered)
