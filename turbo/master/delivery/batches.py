"""Collects the deliveries of tasks that run in batches, by count and by time.

Runs in the master. Before it: ``master.delivery.rate_limits`` or the intake, with deliveries that may run. After it:
the dispatcher, which gives a whole batch to one child (``master.delivery.units``). A delivery waits here as HELD. It is
unstarted: it is acknowledged, and reported to monitors, when a child begins its batch. ``master.window`` makes room
for the batches. A message that was delivered before and is acknowledged late is not collected but runs alone: if it
kills its child, it takes no other message with it. It must never hold a delivery for longer than its task's interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.master.delivery import units
from turbo.policy import poison
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.task_lookup import TaskLookup

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Mapping

    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.policy.batching import Batch
    from turbo.policy.task_options import TaskOptions

#: The header of a message whose children have died.
_DEATHS: Final = poison.DELIVERIES.encode()


class _Line:
    """The collected deliveries of one task."""

    __slots__ = ("batch", "timer", "waiting")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.waiting: list[Delivery] = []
        self.timer: asyncio.TimerHandle | None = None


class Batches:
    """The batches being collected in one worker."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ledger: Ledger, dispatcher: Dispatcher, tasks: Mapping[str, TaskOptions]
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._lines: TaskLookup[_Line] = TaskLookup()
        for name, options in tasks.items():
            if options.batch is not None:
                self._lines.put(name, _Line(options.batch))
        #: Whether any task runs in batches; if not, deliveries need not pass here.
        self.any = bool(self._lines)

    def submit(self, delivery: Delivery) -> None:
        """Collect a READY delivery of a task with batches; pass on any other.

        Others are also those that may have ended a child or a worker before.
        """
        line = self._line_of(delivery)
        if line is None or delivery.state is not State.READY or _DEATHS in delivery.header:
            self._dispatcher.submit(delivery)
            return
        delivery.move(State.HELD)
        line.waiting.append(delivery)
        if len(line.waiting) >= line.batch.size:
            self._flush(line)
        elif line.timer is None:
            line.timer = self._loop.call_later(line.batch.interval, self._flush_now, line)

    def flush(self) -> None:
        """Hand out what is collected, full or not."""
        for line in self._lines:
            self._flush(line)
        self._dispatcher.balance()

    def withdraw(self) -> list[Delivery]:
        """Return the collected deliveries, oldest first per task, and forget them."""
        taken: list[Delivery] = []
        for line in self._lines:
            taken += self._empty(line)
        return taken

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove those of ``wanted`` that are collected here, and return them."""
        taken: list[Delivery] = []
        for line in self._lines:
            found = [delivery for delivery in line.waiting if delivery in wanted]
            if found:
                line.waiting = [delivery for delivery in line.waiting if delivery not in wanted]
                if not line.waiting:
                    self._empty(line)
                taken += found
        return [delivery for delivery in taken if delivery.state is State.HELD]

    @property
    def collected(self) -> int:
        """Number of deliveries that are collected here."""
        return sum(len(line.waiting) for line in self._lines)

    @property
    def room(self) -> int:
        """Number of messages for which batches need room in the window.

        A worker without batches would not have it. A batch that is being collected fills as many places as it may grow
        to. One that is ready or runs is one unit of work, so all but one of its messages count.
        """
        if not self.any:
            return 0
        growing = sum(line.batch.size for line in self._lines if line.waiting)
        return growing + sum(delivery.follows and not delivery.acked for delivery in self._ledger)

    # -- inside ------------------------------------------------------------------------------------------

    def _line_of(self, delivery: Delivery) -> _Line | None:
        if delivery.message is not None:
            return self._lines.named(delivery.message.task)
        return self._lines.find(delivery.header)

    def _flush_now(self, line: _Line) -> None:
        self._flush(line)
        self._dispatcher.balance()

    def _flush(self, line: _Line) -> None:
        ready = self._empty(line)
        for delivery in ready:
            delivery.move(State.READY)
        if ready:
            self._dispatcher.submit(units.group(ready))

    @staticmethod
    def _empty(line: _Line) -> list[Delivery]:
        waiting, line.waiting = line.waiting, []
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        return [delivery for delivery in waiting if delivery.state is State.HELD]
