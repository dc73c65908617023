"""Looks for the starts of short tasks, which their children do not signal.

Runs in the master. Before it: the dispatcher, which reports every hand-over. After it: ``master.outcome.outcomes``,
which reads the rings. While tasks are short (``policy.start_signals``), a child that was idle starts a task without a
signal, and one wake-up serves its start and its end. A task that turns out long is found here, at most two looks after
the hand-over. It must never read a ring.

Why no start is missed. A child omits the signal only for a record that it claimed after it had found nothing, with no
other record behind it (``ChildLink.signal_start``). All that it had stored before is signalled. The child gets a look
``_LOOK`` seconds after each hand-over, and another while none of its records is known to have started. Once one is, the
child is in that task's body, or beyond it, and any record that it finds behind it starts with a signal. When starts
become loud again, every child that holds records is looked at once more: it may have read the word before. *A child
killed at any line:* its death drains the ring up to the tail.
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

#: Seconds between a hand-over and the look.
_LOOK = 0.001


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
        self._expected: dict[int, ChildProcess] = {}
        self._timer: asyncio.TimerHandle | None = None
        dispatcher.on_handed_over.add(self._handed_over)

    def watch(self, child: ChildProcess) -> None:
        """Let this child start tasks as the others do."""
        self._watched[child.epoch] = child
        child.link.page.set_looks(self.on)

    def unwatch(self, child: ChildProcess) -> None:
        """Forget a child whose ring was drained for good."""
        self._watched.pop(child.epoch, None)
        self._expected.pop(child.epoch, None)

    def _handed_over(self, children: Iterable[ChildProcess]) -> None:
        on = start_signals.quiet(self._dispatcher.estimate_ns, now=self.on)
        if on is not self.on:
            self._switch(on)
        elif not on:
            return
        for child in children:
            if child.epoch in self._watched:
                self._expected[child.epoch] = child
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _switch(self, on: bool) -> None:
        self.on = on
        for epoch, child in self._watched.items():
            child.link.page.set_looks(on)
            if not on and child.assigned:
                self._expected[epoch] = child

    def _look(self) -> None:
        self._timer = None
        self.on_due(list(self._expected.values()))
        self._expected = {epoch: child for epoch, child in self._expected.items() if _has_started_none(child)}
        if self._expected and self._timer is None:
            self._timer = self._loop.call_later(_LOOK, self._look)


def _has_started_none(child: ChildProcess) -> bool:
    """Whether the child holds records and the oldest has not started, as far as known."""
    return next((held.state is State.DISPATCHED for held in child.assigned.values()), False)
