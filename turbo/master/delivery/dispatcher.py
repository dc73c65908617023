"""Gives ready deliveries to children: a free child always before a busy one's look-ahead.

Runs in the master. Before it: ``master.delivery.intake`` and ``master.delivery.eta`` submit deliveries. After it: the
task rings. ``policy.scheduling`` says how much a busy child may hold ahead; whatever is unstarted can be taken back,
and is, the moment another child is free with nothing to do or the head task runs long. Never blocks, never decodes.

Cost per message does not grow with the number of children: free children and children with room wait in two
queues, and only a free child facing an empty ready queue looks through all of them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.master.children.ring_access import RingAccess
from turbo.master.children.stalled_children import StalledChildren
from turbo.master.delivery.suspects import Suspects
from turbo.policy import recycling, scheduling
from turbo.policy.delivery_lifecycle import State
from turbo.ring import frames
from turbo.ring.layout import RingCorrupt

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.delivery.suspects import Charges

logger = logging.getLogger(__name__)

#: Seconds between looks at children whose head task may run long, while any holds look-ahead.
_STALL_CHECK = 0.005
#: Seconds after which a full ring is tried again when nothing else moves.
_RETRY = 0.005


class Dispatcher:
    """The ready queue and the hand-over to children's rings."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        max_tasks_per_child: int | None,
        async_concurrency: int = 1,
        charges: Charges | None = None,
        max_deliveries: int = 1,
    ) -> None:
        """``async_concurrency``: coroutines of one child at once. The last two are ``master.delivery.suspects``'s."""
        self._loop = loop
        self._max_tasks = max_tasks_per_child
        self._async_limit = async_concurrency
        self._ready: deque[Delivery] = deque()
        self._free: deque[ChildProcess] = deque()
        self._partial: deque[ChildProcess] = deque()
        self._children: list[ChildProcess] = []
        self.rings = RingAccess(loop, self._have_another_go)
        self._standstill = StalledChildren(loop, self, self.rings, self._children)
        self._suspects = Suspects(loop, self, charges, max_deliveries)
        #: Records that children hold beyond the first, over all children.
        self._ahead = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pauses: set[str] = set()
        #: Moving estimate of a task's run time in nanoseconds; 0 before the first.
        self.estimate_ns = 0
        self._depth = 1

    # -- children ----------------------------------------------------------------------------------------

    def add_child(self, child: ChildProcess) -> None:
        """Begin giving work to a child that said hello."""
        self._children.append(child)
        # One that was only removed for a moment may still hold what it has claimed.
        self._ahead += max(0, len(child.assigned) - 1)
        self.take_up(child)
        self.pump()

    def remove_child(self, child: ChildProcess) -> None:
        """Give no more work to this child; what it holds stays with it until reclaimed."""
        if child in self._children:
            self._children.remove(child)
            self._ahead -= max(0, len(child.assigned) - 1)
        self.set_aside(child)

    def set_aside(self, child: ChildProcess) -> None:
        """Take a child off the lists of those with room."""
        child.free_listed = child.partial_listed = False
        if child in self._free:
            self._free.remove(child)
        if child in self._partial:
            self._partial.remove(child)

    def take_up(self, child: ChildProcess) -> None:
        """Put a child where its load says: among the free, among those with room, or nowhere."""
        if not child.serving or child.probe:
            return
        held, parked, most = len(child.assigned), len(child.parked), self._max_tasks
        if parked >= self._async_limit or (most and not recycling.may_take(child.done, held + parked, most)):
            return
        if held == 0:
            if not child.free_listed:
                child.free_listed = True
                self._free.append(child)
                if child.partial_listed:
                    child.partial_listed = False
                    self._partial.remove(child)
        elif held < self._depth and not child.partial_listed and not child.free_listed:
            child.partial_listed = True
            self._partial.append(child)

    def reclaim(self, child: ChildProcess, most: int | None = None) -> list[Delivery]:
        """Take unstarted records back from a child, all or the newest ``most``, in the order in which they were given.

        After all are taken the child can only finish what it runs, and then sleep.
        """
        taken: list[Delivery] = []
        before, listed = len(child.assigned), child in self._children
        while (most is None or len(taken) < most) and (seq := self.rings.take_back(child)) is not None:
            delivery = child.assigned.pop(seq, None)
            if delivery is None:
                child.stopping = False  # a STOP record, which may have to be given again, or a PROBE
                continue
            delivery.move(State.READY)
            taken.append(delivery)
        if child.probe:
            child.link.release(child.probe)
            child.probe = 0
        if taken and listed:
            # Also when its ring was found damaged just now: its removal took off only what it had then.
            self._ahead -= max(0, before - 1) - max(0, len(child.assigned) - 1)
        taken.reverse()
        return taken

    # -- work --------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Deliveries that no child holds yet."""
        return len(self._ready) + self.rings.postponed

    def pause(self, reason: str) -> None:
        """Hand out nothing until :meth:`resume` with the same reason; several reasons add up."""
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """Drop one reason to pause."""
        self._pauses.discard(reason)
        if not self._pauses:
            self.pump()

    def submit(self, delivery: Delivery) -> None:
        """Queue a READY delivery; the caller pumps once per batch."""
        self._ready.append(delivery)

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries that were taken back at the front again, first one first."""
        self._ready.extendleft(reversed(list(deliveries)))

    def withdraw(self) -> list[Delivery]:
        """Empty the ready queue and every ring of what has not started (shutdown, lost connection)."""
        taken = [*self._suspects.withdraw(), *self._ready, *self.rings.withdraw()]
        self._ready.clear()
        for child in list(self._children):
            taken.extend(self.reclaim(child))
            self.take_up(child)
        return taken

    def pump(self) -> None:  # hot: bench drain
        """Hand out ready deliveries until none or no room is left."""
        if self._pauses:
            return
        ready, free, partial = self._ready, self._free, self._partial
        touched: dict[int, ChildProcess] = {}
        depth = self._depth
        now = 0
        while ready:
            delivery = ready[0]
            if delivery.state is not State.READY:
                if delivery.state is not State.SUSPECT:
                    ready.popleft()  # voided with its connection, or expired, while it waited
                elif not self._suspects.look_at_first(ready, free):
                    break
                continue
            if free:
                child = free.popleft()
                child.free_listed = False
            elif partial and depth > 1:
                child = partial.popleft()
                child.partial_listed = False
            else:
                break
            if not child.serving:
                continue
            held = len(child.assigned)
            record = frames.pack_task(0, delivery.deliver, delivery.header, delivery.body)
            try:
                seq = child.link.stage(frames.TASK, record)
            except RingCorrupt as error:
                self.rings.condemn(child, error)
                continue
            except OSError as error:
                self.rings.postpone(ready.popleft(), error)
                self.take_up(child)
                continue
            if seq is None:
                self._full(child, held)
                continue
            ready.popleft()
            delivery.seq = seq
            delivery.move(State.DISPATCHED)
            child.assigned[seq] = delivery
            touched[child.epoch] = child
            if held:
                self._ahead += 1
            else:
                now = now or time.monotonic_ns()
                child.moved_ns = now
            self.take_up(child)
        for child in touched.values():
            child.link.commit()
            if failpoint.ENABLED:
                failpoint.hit("master.dispatched")
        if self._ahead and self._timer is None:
            self._timer = self._loop.call_later(_STALL_CHECK, self._check_stalls)
        if touched and not self._standstill.looking:
            self._standstill.look_soon()

    def finished(self, child: ChildProcess, runtime_ns: int) -> None:
        """A task of this child ended (already removed from ``assigned``); the caller pumps afterwards."""
        self.estimate_ns = scheduling.estimate(self.estimate_ns, runtime_ns)
        self._depth = scheduling.depth(self.estimate_ns)
        if child.assigned and child.serving:
            # What a child holds that is retiring or dead was taken off the sum when it was removed.
            self._ahead -= 1
        self.take_up(child)

    def balance(self) -> None:
        """After a batch: hand out, and let free children take over what busy ones hold unstarted."""
        self.pump()
        while self._free and self._ahead > 0 and not self._ready and not self._pauses:
            victim = max(self._children, key=_held)
            if len(victim.assigned) < 2:
                return
            # Half of what it holds unstarted, at least one.
            taken = self.reclaim(victim, max(1, (len(victim.assigned) - 1) // 2))
            if not victim.assigned:
                self.take_up(victim)
            if not taken:
                return
            self.resubmit(taken)
            self.pump()

    # -- inside ------------------------------------------------------------------------------------------

    def _full(self, child: ChildProcess, held: int) -> None:
        """A ring had no room: the child comes back into a list when it finishes something."""
        if held == 0:
            # Nothing of it will finish and wake us, so ask again soon.
            self._loop.call_later(_RETRY, self._retry, child)

    def _retry(self, child: ChildProcess) -> None:
        if child.serving:
            self.take_up(child)
            self.pump()

    def _have_another_go(self, deliveries: list[Delivery]) -> None:
        self.resubmit(deliveries)
        self.pump()

    def _check_stalls(self) -> None:
        """Take everything unstarted back from children whose head task runs long."""
        self._timer = None
        limit = time.monotonic_ns() - scheduling.STALL_NS
        for child in list(self._children):
            if len(child.assigned) > 1 and child.moved_ns < limit:
                taken = self.reclaim(child)
                if child.partial_listed:
                    child.partial_listed = False
                    self._partial.remove(child)
                self.resubmit(taken)
                if not child.assigned:
                    # It had claimed nothing at all (not scheduled, or stopped): it is as free as it was before.
                    self.take_up(child)
        self.pump()
        if self._ahead and self._timer is None:
            self._timer = self._loop.call_later(_STALL_CHECK, self._check_stalls)


def _held(child: ChildProcess) -> int:
    return len(child.assigned)
