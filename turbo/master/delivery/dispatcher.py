"""Assigns ready deliveries to children.

A free child is served before a busy child's look-ahead, unless tasks take less than a wake-up.

Runs in the master. Before it: ``master.delivery.intake`` and ``master.delivery.eta`` submit deliveries. After it: the
task rings. The child that became free last comes first: its caches are warm, idle ones stay asleep, and a task that
keeps state in its process finds it again at a low rate. Children with coroutines or threads take turns after these.
Without a free child, busy ones with room take turns. ``policy.look_ahead`` limits how many records a busy child may
hold ahead. Unstarted records are taken back as soon as another child is idle or the running task takes long. It must
never block or decode a message.

With more children than processors, tasks that take less than 0.2 ms are given out in batches of about 0.2 ms: waking
more children would cost more than the tasks, and they would wait for a processor. A batch grows only for half a
millisecond after its child's last news, so nothing more is put behind a task that turns out long; what is there is
taken back like everything behind it (``master.delivery.take_backs``), a few milliseconds later.

The cost per message does not grow with the number of children: free children and children with room wait in two
queues. All children are searched only when one is free and the ready queue is empty (not while tasks come in batches),
and every 5 ms while any child holds look-ahead.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.master.children.ring_access import RingAccess
from turbo.master.children.stalled_children import StalledChildren
from turbo.master.delivery import units
from turbo.master.delivery.suspects import Suspects
from turbo.master.delivery.take_backs import TakeBacks
from turbo.master.delivery.time_limit_changes import TimeLimitChanges
from turbo.observers import Observers
from turbo.policy import look_ahead
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.recycling import may_take
from turbo.ring.frames import TASK, pack_task
from turbo.ring.layout import RingCorrupt

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable, Sequence

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.delivery.suspects import Charges

logger = logging.getLogger(__name__)

#: Seconds after which the full ring of a child is tried again that runs nothing whose end would wake the dispatcher.
_RETRY = 0.005
#: Nanoseconds for which starting a coroutine keeps a child from its ring; the look-ahead uses it as run time.
_ADMISSION_NS = 50_000
_NO_LIMIT = 1 << 30
#: ``child.serving`` is a call, once and again for every message.
_SERVING = ChildState.SERVING


class Dispatcher:
    """The ready queue, and the hand-over to the children's rings."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop, *, max_tasks_per_child: int | None,
        async_concurrency: int = 1, threads: int | None = None,
        charges: Charges | None = None, max_deliveries: int = 1,
        time_limits: TimeLimitChanges | None = None, processors: int = _NO_LIMIT,
    ) -> None:  # fmt: skip
        """``async_concurrency``, ``threads``: per child. The next two: for suspects."""
        self._loop = loop
        self._threads = threads
        self._beside_limit = _NO_LIMIT if threads else async_concurrency
        self._limits = (max_tasks_per_child, threads) if max_tasks_per_child or threads else None
        self._ready: deque[Delivery] = deque()
        self._free: deque[ChildProcess] = deque()
        self._partial: deque[ChildProcess] = deque()
        #: The children that get work.
        self.children: list[ChildProcess] = []
        self.rings = RingAccess(loop, self._hand_out_again)
        self._stalled_children = StalledChildren(loop, self, self.rings, self.children)
        self._batches = look_ahead.BatchSize(_NO_LIMIT if threads else processors)
        self._take_backs = TakeBacks(loop, self, self._batches, self.children, self._free, self._partial, self._ready)
        self._suspects = Suspects(loop, self, charges, max_deliveries)
        self._time_limits = time_limits or TimeLimitChanges({})
        #: Called with the children that have just been handed records.
        self.on_handed_over: Observers[Collection[ChildProcess]] = Observers()
        #: Records that children hold beyond their first, summed over all children.
        self.ahead = 0
        self._pauses: set[str] = set()
        #: Moving estimate of a task's run time in nanoseconds; 0 before the first.
        self.estimate_ns = 0
        self._depth = look_ahead.depth(_ADMISSION_NS) if threads else 1

    # -- children ----------------------------------------------------------------------------------------

    def add_child(self, child: ChildProcess) -> None:
        """Start giving work to a child that has reported ready."""
        self.children.append(child)
        # A child that was removed for a moment may still hold claimed records.
        self.ahead += max(0, len(child.assigned) - 1)
        self.take_up(child, cold=True)
        self._take_backs.from_behind_long_tasks()
        self.pump()

    def remove_child(self, child: ChildProcess) -> None:
        """Give this child no more work; it keeps what it holds until that is reclaimed."""
        if child in self.children:
            self.children.remove(child)
            self.ahead -= max(0, len(child.assigned) - 1)
        self.set_aside(child)

    def set_aside(self, child: ChildProcess) -> None:
        """Remove a child from the lists of children with room."""
        if child.free_listed:
            self._free.remove(child)
        if child.partial_listed:
            self._partial.remove(child)
        child.free_listed = child.partial_listed = False

    def take_up(self, child: ChildProcess, *, cold: bool = False) -> None:
        """List a child by its load; a free one that is ``cold`` as the last choice."""
        if child.state is not _SERVING or child.probe:
            return
        held, parked = len(child.assigned), len(child.parked)
        if parked >= self._beside_limit or (self._limits and not _may_take(child, *self._limits)):
            return
        if held == 0:
            if not child.free_listed:
                child.free_listed = True
                # A function would hold up the coroutines of a child that runs some.
                (self._free.appendleft if cold or child.parked else self._free.append)(child)
                if child.partial_listed:
                    child.partial_listed = False
                    self._partial.remove(child)
        elif held < self._depth and not child.partial_listed and not child.free_listed:
            child.partial_listed = True
            self._partial.append(child)

    def reclaim(self, child: ChildProcess, most: int | None = None) -> list[Delivery]:
        """Take back all unstarted records of a child, or the newest ``most``.

        Return them oldest first. Once all are taken, the child can only finish what it runs and then sleep.
        """
        taken: list[Delivery] = []
        before, listed = len(child.assigned), child in self.children
        while (most is None or len(taken) < most) and (seq := self.rings.take_back(child)) is not None:
            delivery = child.assigned.pop(seq, None)
            if delivery is None:
                child.stopping = False  # a STOP record, which may have to be given again, or a PROBE
                continue
            delivery.move(State.READY)
            if delivery.followers:
                units.recall(child, delivery)
            taken.append(delivery)
        if child.probe:
            child.link.release(child.probe)
            child.probe = 0
        if taken and listed:
            # This also holds when the ring was just found corrupt: its removal subtracted only what it held then.
            self.ahead -= max(0, before - 1) - max(0, len(child.assigned) - 1)
        taken.reverse()
        return taken

    # -- work --------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Number of deliveries that no child holds yet."""
        return len(self._ready) + self.rings.postponed

    def pause(self, reason: str) -> None:
        """Stop handing out until :meth:`resume` with the same reason; reasons add up."""
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """Remove one reason to pause."""
        self._pauses.discard(reason)
        if not self._pauses:
            self.pump()

    def submit(self, delivery: Delivery) -> None:
        """Queue a READY delivery; the caller pumps once per batch."""
        self._ready.append(delivery)

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries that were taken back at the front of the queue, in their order."""
        self._ready.extendleft(reversed(list(deliveries)))

    def withdraw(self) -> list[Delivery]:
        """Take all unstarted deliveries out of the ready queue and the rings."""
        taken = [*self._suspects.withdraw(), *self._ready, *self.rings.withdraw()]
        self._ready.clear()
        for child in list(self.children):
            taken.extend(self.reclaim(child))
            self.take_up(child)
        return taken

    def pump(self) -> None:  # hot: bench drain
        """Hand out ready deliveries until none is left or no child has room."""
        if self._pauses:
            return
        ready, free, partial = self._ready, self._free, self._partial
        touched: dict[int, ChildProcess] = {}
        depth, limits = self._depth, self._time_limits
        batch = self._batches.begin(spared := len(self.children) - self._batches.processors)
        now = time.monotonic_ns() if batch > 1 else 0
        while ready:
            delivery = ready[0]
            if delivery.state is not State.READY:
                if delivery.state is not State.SUSPECT:
                    ready.popleft()  # voided with its connection, or expired, while waiting
                elif not self._suspects.look_at_first(ready, free):
                    break
                continue
            if batch > 1 and len(free) <= spared and (busy := _with_part_of_a_batch(partial, batch, now)) is not None:
                child = busy
            elif free:
                child = free.pop()
                child.free_listed = False
            elif partial and depth > 1:
                child = partial.popleft()
                child.partial_listed = False
            else:
                break
            if child.state is not _SERVING:
                continue
            held = len(child.assigned)
            try:
                if delivery.followers or limits.any:
                    seq = units.stage(child, delivery, limits)
                else:
                    seq = child.link.stage(TASK, pack_task(0, delivery.deliver, delivery.header, delivery.body))
            except RingCorrupt as error:
                self.rings.condemn(child, error)
                continue
            except OSError as error:
                self.rings.postpone(ready.popleft(), error)
                self.take_up(child)
                continue
            if seq is None:
                if not held:
                    self._loop.call_later(_RETRY, self._retry, child)
                continue
            ready.popleft()
            delivery.seq = seq
            delivery.move(State.DISPATCHED)
            child.assigned[seq] = delivery
            touched[child.epoch] = child
            if held:
                self.ahead += 1
            else:
                child.moved_ns = now = now or time.monotonic_ns()
            if child.parked or self._limits:
                self.take_up(child)
            elif held + 1 < depth:  # as `take_up` does, for a child that is in no list
                child.partial_listed = True
                partial.append(child)
        for child in touched.values():
            child.link.commit()
            if failpoint.ENABLED:
                failpoint.hit("master.dispatched")
        if self.ahead and not self._take_backs.looking:
            self._take_backs.look_soon()
        if touched:
            self.on_handed_over(touched.values())
            if not self._stalled_children.looking:
                self._stalled_children.look_soon()

    def admitted(self, child: ChildProcess) -> None:
        """Record that a task, now in ``parked``, runs beside others; the caller pumps."""
        if not self._threads:
            return self.finished(child, (_ADMISSION_NS,), int(bool(child.assigned)))
        self.ahead -= bool(child.assigned and child.serving)
        self.take_up(child)

    def ended_beside(self, child: ChildProcess, runtime_ns: int) -> None:
        """Record the end of a task that was in ``parked``."""
        if self._threads:
            self.estimate_ns = look_ahead.estimate(self.estimate_ns, runtime_ns)
        self.take_up(child)

    def finished(self, child: ChildProcess, runtimes_ns: Sequence[int], followed: int) -> None:
        """Record the end of ``assigned`` tasks; ``followed`` of them left others there."""
        self.estimate_ns = look_ahead.estimate(self.estimate_ns, *runtimes_ns)
        self._depth = look_ahead.depth(self.estimate_ns)
        self._batches.ended(runtimes_ns)
        if child.state is _SERVING:
            # For a retiring or dead child, its removal already subtracted its records.
            self.ahead -= followed
        self.take_up(child)

    def balance(self) -> None:
        """Hand out after a batch; free children take records from busy ones."""
        self._take_backs.from_behind_long_tasks()
        self.pump()
        if self._free and self.ahead > 0 and self._batches.batch == 1 and not self._ready and not self._pauses:
            self._take_backs.for_free_children()

    # -- inside ------------------------------------------------------------------------------------------

    def _retry(self, child: ChildProcess) -> None:
        self.take_up(child)  # does nothing unless it serves
        self.pump()

    def _hand_out_again(self, deliveries: list[Delivery]) -> None:
        self.resubmit(deliveries)
        self.pump()


def _with_part_of_a_batch(partial: deque[ChildProcess], batch: int, now: int) -> ChildProcess | None:
    """Take a child off the list of busy ones with room, if its batch still grows."""
    if partial and look_ahead.grows(len(partial[-1].assigned), batch, now - partial[-1].moved_ns):
        child = partial.pop()
    elif partial and look_ahead.grows(len(partial[0].assigned), batch, now - partial[0].moved_ns):
        child = partial.popleft()
    else:
        return None
    child.partial_listed = False
    return child


def _may_take(child: ChildProcess, max_tasks: int | None, threads: int | None) -> bool:
    """Whether a child may get another task."""
    places, holds = None, len(child.assigned) + len(child.parked)
    if threads:
        # A batch takes one thread.
        places = threads + sum(delivery.follows for delivery in child.parked.values())
    return may_take(child.done, holds, max_tasks, places) > 0
