"""Tasks that are coroutines: any number of them at once, on one event loop in the child.

Runs in a child, beside ``native.executor``, which decodes each message and takes it on (ADMITTED), and under
``child.loop``, which claims records only while there is room. The loop runs whenever nothing can be claimed, and stops
as soon as that may have changed: tokens in the ring, a body in the channel, the master gone, a coroutine ended. So
records are claimed, and tasks that are functions are run, outside of the running loop, one at a time, as in a child
without coroutines; a function may use ``asyncio.run``, and keeps the coroutines waiting while it runs.

Why it is right beside the rings, whose rules are made for one task at a time. An admitted task has left the ring: its
record is claimed and copied, the master has moved its delivery aside, and its DONE may come in any order. Everything
here happens in the child's one thread, so the ring's single producer stays one. The control page names functions only;
a coroutine's soft limit is a timer of this loop, its hard limit the master's, which kills the child. Killed at any
point, the child leaves: records claimed and not admitted, to be judged as ever, and admitted ones, of which the master
knows that they began and did not end.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import TYPE_CHECKING, Any

import uvloop

from turbo import current
from turbo.child.soft_limited_coroutine import SoftLimitedCoroutine, SoftTimer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from turbo.child.endings import Run
    from turbo.child.reporting import Reporter
    from turbo.ring.link import ChildLink

    #: Runs one body, given the run and what puts a soft limit around it; returns with nothing raised.
    OutcomeOf = Callable[[Run, Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]], Coroutine[Any, Any, None]]


class Coroutines:
    """The event loop of one child and what runs on it. Made with the child, opened with the first coroutine."""

    def __init__(self, link: ChildLink, reporter: Reporter, outcome_of: OutcomeOf, limit: int) -> None:
        self._link = link
        self._reporter = reporter
        self._outcome_of = outcome_of
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._signal_due = False
        self._finishing = False
        #: The loop runs without looking for records, since there was no room when it was started.
        self._full = False
        #: Another record may be claimed now. Right at every moment, not only when the loop has come round to it: it may
        #: stop a turn early, and a child that wrongly has no room and nothing to run would spin.
        self.has_room = True

    @property
    def busy(self) -> bool:
        """Whether any coroutine has not ended."""
        return bool(self._running)

    def begin(self, run: Run, soft_limit: float | None) -> None:
        """Start one, in a context of its own. ``soft_limit`` in seconds, None for none."""
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

    async def _drive(self, run: Run, soft_limit: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._reporter.begin_coroutine(run.seq, run.message.id)
        current.push(run.plan.task, run.request)
        timer: SoftTimer | None = None

        def limited(body: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
            nonlocal timer
            self._link.page.begin_coroutine(run.seq)
            guarded = SoftLimitedCoroutine(body)
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
        """Once a turn: tell the master of the outcomes, and let the child claim again, which it could not when full."""
        assert self._loop is not None
        self._signal_due = False
        self._link.signal()
        if self._full or not self._running:
            self._loop.stop()
