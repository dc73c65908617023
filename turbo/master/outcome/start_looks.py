"""Looks for the starts of short tasks, which their children do not signal.

Runs in the master. Before it: the dispatcher, which reports every hand-over. After it: ``master.outcome.outcomes``,
which reads the rings. While tasks are short (``policy.start_signals``), a child that was idle starts a task without a
signal, and one wake-up serves its start and its end. A task that turns out long is found here, soon after the hand-over
if its child is quick, else after at most twice the time that the child needed. It must never read a ring.

Why no start is missed. A child omits the signal only for a record that it claimed after it had found nothing, with no
other record behind it (``ChildLink.signal_start``). All that it had stored before is signalled. Each hand-over is
followed by a look at least ``_LOOK`` seconds later, which reads all that the child has stored until then. Three cases
are possible then:

- *The record has started:* the look has found the start.
- *It is the oldest that the child holds and has not started:* the child is looked at again.
- *An older one has started and not ended:* its child sees the new record behind it when it ends, so the next start is
  signalled. That takes a tail word that is ``_LOOK`` seconds old, so it holds on weakly ordered machines too.

The three presume that the look reads, and that there was one after the hand-over. So all children that hold records are
looked at once more when starts become quiet (a child may have got its record before, without a look to follow), when
they become loud again (it may have read the word before), and when polling ends (looks leave the rings to the polls).
*A child killed at any line:* its death drains the ring up to the tail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.observers import Observers
from turbo.policy import start_signals
from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.dispatcher import Dispatcher

#: Least seconds between a hand-over and the look. Looks every millisecond took 7 % of a core at 1,200 tasks a second.
_LOOK = 0.004
#: Most seconds between two looks at children that start nothing: stopped ones, or those without room for a coroutine.
_LONGEST = 0.064


class StartLooks:
    """The children to look at, and whether they may start tasks quietly."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        #: Called with the children to look at.
        self.on_due: Observers[list[ChildProcess]] = Observers()
        #: Whether children start tasks quietly.
        self.on = False
        self._watched: dict[int, ChildProcess] = {}
        #: The next look is the first at these that is late enough, and decides whether there is another.
        self._expected: dict[int, ChildProcess] = {}
        #: Given records since the timer was set: looked at next time, and once more.
        self._recent: dict[int, ChildProcess] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _LOOK
        dispatcher.on_handed_over.add(self._handed_over)

    def watch(self, child: ChildProcess) -> None:
        """Let this child start tasks as the others do."""
        self._watched[child.epoch] = child
        child.link.page.set_looks(self.on)

    def unwatch(self, child: ChildProcess) -> None:
        """Forget a child whose ring was drained for good."""
        for children in (self._watched, self._expected, self._recent):
            children.pop(child.epoch, None)

    def expect_all(self) -> None:
        """Look at every child that holds records, as after a hand-over."""
        self._expect(child for child in self._watched.values() if child.assigned)

    def _handed_over(self, children: Iterable[ChildProcess]) -> None:
        on = start_signals.quiet(self._dispatcher.estimate_ns, now=self.on)
        if on is not self.on:
            self._switch(on)
        elif on:
            self._expect(children)

    def _switch(self, on: bool) -> None:
        self.on = on
        for child in self._watched.values():
            child.link.page.set_looks(on)
        self.expect_all()

    def _expect(self, children: Iterable[ChildProcess]) -> None:
        if self._pause > _LOOK:
            self._pause = _LOOK
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        expected = self._expected if self._timer is None else self._recent
        for child in children:
            if child.epoch in self._watched:
                expected[child.epoch] = child
        if self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._expected:
            self._timer = self._loop.call_later(self._pause, self._look)

    def _look(self) -> None:
        self._timer = None
        recent, self._recent = self._recent, {}
        due, self._expected = self._expected | recent, {}
        self._pause = _LOOK if recent else min(2 * self._pause, _LONGEST)
        # What is found may lead to hand-overs, which expect children too.
        self.on_due(list(due.values()))
        for epoch, child in due.items():
            if epoch in self._watched and (epoch in recent or _has_started_none(child)):
                self._expected[epoch] = child
        if self._timer is None:
            self._set_timer()


def _has_started_none(child: ChildProcess) -> bool:
    """Whether the child holds records and the oldest has not started, as far as known."""
    return next((held.state is State.DISPATCHED for held in child.assigned.values()), False)
