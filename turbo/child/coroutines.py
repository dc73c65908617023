"""Runs coroutine tasks, any number at once, on one event loop in the child.

Runs in a child, beside ``native.executor`` or ``adopted.executor``, which accept each message (ADMITTED), and under
``child.loop``, which claims records only while there is room. The loop runs whenever nothing can be claimed. It stops
as soon as that may have changed: a token in the ring, a body in the channel, the master gone, a coroutine ended. So
records are claimed, and tasks that are functions run, while the loop is stopped, one at a time, as in a child without
coroutines. A function may use ``asyncio.run``; the coroutines wait while it runs. Coroutines must never touch the rings
from another thread.

Why it is safe beside the rings, whose rules allow one task at a time: an admitted task has left the ring. Its record is
claimed and copied, the master has moved its delivery aside, and its DONE may come in any order. Everything here happens
in the child's one thread, so the ring keeps its single producer. The control page names functions only; a coroutine's
soft limit is a timer of this loop, and the master enforces its hard limit by killing the child. A child that is killed
at any point leaves records that are claimed and not admitted, which are handled as for any child, and admitted ones, of
which the master knows that they began and did not end.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import uvloop

from turbo.child.soft_limited_coroutine import SoftLimitedCoroutine, SoftTimer

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


class Coroutines(Generic[R]):
    """The event loop of one child and its coroutines.

    The loop is opened with the first coroutine.
    """

    def __init__(
        self,
        link: ChildLink,
        soft: SoftLimit,
        outcome_of: Callable[[R, Limited], Coroutine[Any, Any, None]],
        limit: int,
    ) -> None:
        """``outcome_of`` runs one task, in a context of its own, and reports its outcome.

        It raises nothing.
        """
        self._link = link
        self._soft = soft
        self._outcome_of = outcome_of
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._signal_due = False
        self._finishing = False
        #: The loop runs without watching for records, since there was no room when it was started.
        self._full = False
        #: Another record may be claimed now. It must be right at every moment: the loop may stop one iteration early,
        #: and a child that wrongly sees no room and has nothing to run would spin.
        self.has_room = True

    @property
    def busy(self) -> bool:
        """Whether any coroutine has not ended."""
        return bool(self._running)

    def begin(self, run: R, soft_limit: float | None) -> None:
        """Start a coroutine, in a context of its own.

        ``soft_limit`` in seconds, None for none.
        """
        loop = self._loop or self._open()
        task = loop.create_task(self._drive(run, soft_limit), context=contextvars.copy_context())
        self._running.add(task)
        task.add_done_callback(self._ended)
        self.has_room = len(self._running) < self._limit

    def serve(self) -> None:
        """Run the loop until a record may be claimed, or nothing is left to run."""
        loop = self._loop or self._open()
        self._full = not self.has_room
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
        """Run until every coroutine has ended; no record is claimed meanwhile."""
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

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.has_room = not self._finishing
        if not self._signal_due:
            self._signal_due = True
            assert self._loop is not None
            self._loop.call_soon(self._signal)
        if not task.cancelled():
            task.result()  # an outcome that could not be written is an error of ours, and goes to the loop's handler

    def _signal(self) -> None:
        """Signal the outcomes to the master, once per loop iteration.

        Let a child that was full claim again.
        """
        assert self._loop is not None
        self._signal_due = False
        self._link.signal()
        if self._full or not self._running:
            self._loop.stop()
