"""Runs several tasks at once in one child: coroutines, and functions in threads.

Coroutines run on an event loop; functions do so in threads with ``-P threads`` alone.


Runs in a child, beside ``native.executor`` or ``adopted.executor``, which accept each message (ADMITTED), and under
``child.loop``, which claims records only while there is room. The loop runs whenever nothing can be claimed. It stops
as soon as that may have changed: a token in the ring, a body in the channel, the master gone, a task ended. So records
are claimed while the loop is stopped. In a child without threads, tasks that are functions run then too, one at a time;
such a function may use ``asyncio.run``, and the coroutines wait while it runs. With threads, every function runs in one
of them. Only the main thread, which runs the loop, claims; a task's thread writes its outcome itself, which the outcome
ring allows.

Why it is safe beside the rings: an admitted task has left the task ring. Its record is claimed and copied, the master
has moved its delivery aside, and its DONE may come in any order. The control page names none of these tasks. The soft
limit of a coroutine is a timer of this loop, and so is that of a thread's task (``child.soft_limited_threads``); the
master enforces the hard limits. A child that is killed at any point leaves records that are claimed and not admitted,
which are handled as for any child, and admitted ones, of which the master knows that they began and did not end. A task
counts as begun when its coroutine enters the body, or before its thread gets it; both happen in the order of the
sequence numbers.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import uvloop

from turbo.child.soft_limited_coroutine import SoftLimitedCoroutine, SoftTimer
from turbo.child.soft_limited_threads import ThreadSoftLimits
from turbo.child.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from turbo.child.time_limits import SoftLimit
    from turbo.ring.link import ChildLink

    #: Wraps a body with its soft limit.
    Limited = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]


class Numbered(Protocol):
    """One task under way; only its sequence number matters here."""

    @property
    def seq(self) -> int:
        """The sequence number of its record."""


R = TypeVar("R", bound=Numbered)

#: Seconds after which a soft limit is tried again in a thread that could not be interrupted.
_AGAIN = 0.01


class ParallelTasks(Generic[R]):
    """The event loop of one child and the tasks that run at once.

    The loop is opened with the first of them.
    """

    def __init__(
        self,
        link: ChildLink,
        soft: SoftLimit,
        outcome_of: Callable[[R, Limited], Coroutine[Any, Any, None]],
        limit: int,
        call: Callable[[R], None],
    ) -> None:
        """``outcome_of`` runs a coroutine, ``call`` a function in a thread.

        Both report the outcome, run in a context of their own and raise nothing. ``limit``: how many tasks run at once.
        Functions can run in threads if ``soft`` holds their limits.
        """
        self._link = link
        self._soft = soft
        self._outcome_of = outcome_of
        self._limit = limit
        self._call = call
        self._threads = Threads(limit)
        self._limits = soft if isinstance(soft, ThreadSoftLimits) else None
        if self._limits is not None:
            self._limits.on_signal.add(self._interrupt)
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The coroutines' tasks of the loop, and the runs in threads.
        self._running: set[object] = set()
        self._signal_due = False
        self._finishing = False
        #: The loop runs without watching for records, since there was no room when it was started.
        self._full = False
        #: Another record may be claimed now. It must be right at every moment: the loop may stop one iteration early,
        #: and a child that wrongly sees no room and has nothing to run would spin.
        self.has_room = True

    @property
    def busy(self) -> bool:
        """Whether any task has not ended."""
        return bool(self._running)

    def begin(self, run: R, soft_limit: float | None, *, in_thread: bool = False) -> None:
        """Start a coroutine, or a function in a thread, in a context of its own.

        ``soft_limit`` in seconds, None for none.
        """
        if in_thread:
            self._begin_in_thread(run, soft_limit)
            return
        loop = self._loop or self._open()
        task = loop.create_task(self._drive(run, soft_limit), context=contextvars.copy_context())
        self._running.add(task)
        task.add_done_callback(self._ended)
        self.has_room = len(self._running) < self._limit

    def open(self) -> asyncio.AbstractEventLoop:
        """Return the loop; open it if it is not open."""
        return self._loop or self._open()

    def _begin_in_thread(self, run: R, soft_limit: float | None) -> None:
        loop, limits = self._loop or self._open(), self._limits
        assert limits is not None, "this child runs no threads"
        context, seq = contextvars.copy_context(), run.seq
        timer: SoftTimer | None = None

        def work() -> None:
            failed: BaseException | None = None
            try:
                context.run(self._call, run)
            except BaseException as error:  # noqa: BLE001 - the loop's handler reports it, and this thread goes on
                failed = error
            self._link.signal()
            loop.call_soon_threadsafe(ended, failed)

        def ended(failed: BaseException | None) -> None:
            if timer is not None:
                timer.cancel()
            limits.close(seq)
            self._make_room(run)
            if failed is not None:
                raise failed  # an outcome that could not be written is an error of ours

        limits.open(seq)
        if soft_limit is not None:
            timer = SoftTimer(loop, self._link.page, soft_limit, functools.partial(self._expire, seq))
        self._link.page.begin_coroutine(seq)
        self._running.add(run)
        self.has_room = len(self._running) < self._limit
        self._threads.run(work)

    def rest(self) -> None:
        """Run the tasks under way, or sleep, until a record may be claimed."""
        if self._running:
            self.serve()
        else:
            self._link.wait()

    def serve(self) -> None:
        """Run the loop until a record may be claimed, or nothing is left to run."""
        loop = self._loop or self._open()
        self._full = not self.has_room
        # A function, or a message that did not run, may have ended just now, and the loop may run for long.
        self._link.signal()
        fds = self._link.wait_fds[1:] if self._full else self._link.wait_fds
        for fd in fds:
            loop.add_reader(fd, loop.stop)
        try:
            loop.run_forever()
        finally:
            for fd in fds:
                loop.remove_reader(fd)
        self._link.look()

    def finish(self) -> None:
        """Run until every task has ended; no record is claimed meanwhile."""
        self._finishing = True
        self.has_room = False
        while self._running:
            self.serve()

    # -- inside ------------------------------------------------------------------------------------------

    def _open(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = uvloop.new_event_loop()
        # Libraries ask for the current loop before any coroutine runs.
        asyncio.set_event_loop(loop)
        return loop

    async def _drive(self, run: R, soft_limit: float | None) -> None:
        loop = asyncio.get_running_loop()
        timer: SoftTimer | None = None

        def limited(body: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
            nonlocal timer
            self._link.page.begin_coroutine(run.seq)
            guarded = SoftLimitedCoroutine(body, self._soft.error)
            task = asyncio.current_task()
            if soft_limit is not None and task is not None:
                timer = SoftTimer(loop, self._link.page, soft_limit, functools.partial(guarded.expire, task))
            return guarded

        try:
            await self._outcome_of(run, limited)
        finally:
            if timer is not None:
                timer.cancel()

    def _interrupt(self, seq: int) -> None:
        """Raise the soft limit in a thread; called by a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._expire, seq)

    def _expire(self, seq: int) -> None:
        if self._limits is not None and not self._limits.expire(seq):
            assert self._loop is not None
            self._loop.call_later(_AGAIN, self._expire, seq)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._make_room(task)
        if not task.cancelled():
            task.result()  # an outcome that could not be written is an error of ours, and goes to the loop's handler

    def _make_room(self, ended: object) -> None:
        self._running.discard(ended)
        self.has_room = not self._finishing
        if not self._signal_due:
            self._signal_due = True
            assert self._loop is not None
            self._loop.call_soon(self._signal)

    def _signal(self) -> None:
        """Signal the outcomes to the master, once per loop iteration.

        Let a child that was full claim again.
        """
        assert self._loop is not None
        self._signal_due = False
        self._link.signal()
        if self._full or not self._running:
            self._loop.stop()
