"""Adjusts the prefetch window to the workload.

Runs in the master. It measures, asks ``policy.prefetch``, and has the link swap its consumers. A fixed window
(``--prefetch fixed``, or a multiplier set by hand) is widened only for messages held for their ETA or a rate limit,
which fill it without being work, and for batches, each of which is one unit of work. It is narrowed by messages in a
lease queue, which are work without filling it: otherwise each long task would admit one more message to wait behind it.
A window reduced to nothing is a pause: consumers end, and start again when there is room. A consumer that would lose
its place or its queue stays, and admits as little as it can.

When every child is in a long task, a window that has grown returns to the app's own size at once, and what waits beyond
that goes back to the broker (``master.delivery.surplus``). The prefetch count of a consumer cannot change, so new
consumers get what the old ones' running messages leave of the window, and more as these end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from turbo.amqp.channel_calls import ChannelGone
from turbo.amqp.consume.consumer import Pause
from turbo.policy import prefetch, surplus

if TYPE_CHECKING:
    from turbo.amqp.consume.link import BrokerLink
    from turbo.master.children.pool_size import PoolSize
    from turbo.master.delivery.batches import Batches
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.lease_copies import LeaseCopies
    from turbo.master.delivery.ledger import Ledger
    from turbo.master.delivery.paused_queues import PausedQueues
    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.delivery.surplus import Surplus
    from turbo.policy.worker_options import WorkerOptions

logger = logging.getLogger(__name__)

_INTERVAL = 0.1
#: Seconds between looks for long tasks while messages wait.
_LOOK = 0.02
#: Most bytes of all messages in the window.
_BYTE_BUDGET = 64 * 1024 * 1024


class Window:
    """Measures and adjusts the window of one worker."""

    def __init__(
        self,
        link: BrokerLink,
        ledger: Ledger,
        dispatcher: Dispatcher,
        shelf: EtaShelf,
        rate_limits: RateLimits,
        batches: Batches,
        copies: LeaseCopies,
        paused_queues: PausedQueues,
        size: PoolSize,
        options: WorkerOptions,
        surplus: Surplus,
    ) -> None:
        self._link = link
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._shelf = shelf
        self._rate_limits = rate_limits
        self._batches = batches
        self._copies = copies
        self._paused_queues = paused_queues
        self._size = size
        self._options = options
        self._surplus = surplus
        self._first = True
        #: The number of children for which the window was last set.
        self._sized_for = size.limit
        self._swapped = 0.0
        self._wanted = 0.0
        #: When the window was last looked at, and when the broker was last asked who lacks messages.
        self._adjusted = self._asked = 0.0
        #: Whether the window may have grown since the last return, and when every child was last in a long task.
        self._grown = False
        self._long = -prefetch.HOLD_OFF
        #: Whether messages of stopped consumers take part of the window.
        self._returning = False
        #: The whole window, and its part for leased messages and for those of stopped consumers.
        self._total = link.window
        self._taken = 0
        self._paused = False
        self._running = False
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Measure and adjust until cancelled. A multiplier of 0 means no window."""
        if self._options.prefetch_multiplier == 0:
            return
        loop = asyncio.get_running_loop()
        self._running = True
        try:
            while True:
                watching = self._returning or (self._grown and self._surplus.waits)
                await asyncio.sleep(_LOOK if watching else _INTERVAL)
                now = loop.time()
                if self._options.adaptive_prefetch and self._surplus.all_long():
                    self._long = now
                    if self._grown and self._surplus.waits:
                        await self._give_back(now)
                if self._returning:
                    await self._refill(now)
                elif now - self._adjusted >= _INTERVAL:
                    self._adjusted = now
                    await self._adjust(now)
        finally:
            # The worker stops: do not resume its consumers.
            self._running = False

    async def make_room(self) -> None:
        """Narrow the window for messages about to be leased.

        Their originals are acknowledged afterwards.
        """
        if self._running and (taken := self._copies.count + self._left()) != self._taken:
            await self._apply(self._total, taken)

    async def _adjust(self, now: float) -> None:
        facts = self._facts(now)
        if prefetch.goal(facts) >= facts.current:
            self._wanted = now
            if prefetch.goal(facts) == facts.current:
                self._sized_for = self._size.limit
        count = prefetch.next_window(facts)
        taken = self._copies.count
        if not self._link.ready or (count == facts.current and taken == self._taken):
            return
        if count == facts.current and facts.since_swap < facts.pause:
            return
        self._first = False
        if count != facts.current:
            self._sized_for = self._size.limit
        self._swapped = now
        self._grown |= count > facts.current
        logger.debug("Prefetch window from %d to %d, %d of it leased", facts.current, count, taken)
        await self._apply(count, taken)

    async def _give_back(self, now: float) -> None:
        """Go back to the app's own window, and return what waits beyond it."""
        own = prefetch.own(self._facts(now))
        if not self._link.ready or now - self._asked < _INTERVAL:
            return
        self._asked = now
        try:
            if not await self._surplus.is_lacked(own):
                return
        except ChannelGone as gone:
            logger.warning("The connection was lost while a queue was looked at: %s", gone)
            return
        self._first, self._grown, self._swapped = False, False, now
        may_pause = not any(queue.keeps_consumer for queue in self._link.wanted.values())
        occupied = self._copies.count + self._surplus.running()
        await self._apply(own, own - surplus.admitted(own, occupied, may_pause=may_pause))
        count = self._surplus.give_back()
        self._returning = True
        logger.debug(
            "All children are in long tasks: returned %d messages beyond a window of %d",
            count,
            own,
        )

    async def _refill(self, now: float) -> None:
        """Admit as many messages as those of stopped consumers have ended."""
        facts = self._facts(now)
        own, left = prefetch.own(facts), self._left()
        if prefetch.goal(facts) > own:
            self._returning = False  # tasks are short again
            return
        taken = self._copies.count + left
        if self._link.ready and own - taken > self._total - self._taken:
            await self._apply(own, taken, add=True)
        self._returning = left > 0

    def _left(self) -> int:
        return self._surplus.left() if self._returning else 0

    async def _apply(self, total: int, taken: int, *, add: bool = False) -> None:
        async with self._lock:
            if not self._running:
                return
            self._total, self._taken = total, taken
            if total <= taken:
                self._paused = True
                await self._link.cancel_consumers(Pause.BUT_KEPT)
                if any(queue.keeps_consumer for queue in self._link.wanted.values()):
                    await self._link.set_prefetch(1)
                return
            await self._link.set_prefetch(total - taken, add=add)
            if self._paused and self._running:
                self._paused = False
                await self._link.resume_consumers()

    def _facts(self, now: float) -> prefetch.WindowFacts:
        waiting = len(self._ledger)
        held = len(self._shelf) + len(self._rate_limits)
        room = self._batches.room
        # Computed each time: a queue's type is known only once it is declared.
        quorum = self._link.refusals.is_quorum(*self._link.consumed)
        ceiling = prefetch.CEILING_QUORUM if quorum else prefetch.CEILING_CLASSIC
        adaptive = self._options.adaptive_prefetch
        places = self._size.limit * (self._options.threads or 1)
        floor = places * self._options.prefetch_multiplier
        return prefetch.WindowFacts(
            current=self._total,
            floor=floor,
            ceiling=(self._options.prefetch_ceiling or ceiling) if adaptive else floor,
            runtime=self._dispatcher.estimate_ns / 1e9,
            concurrency=places,
            held=held,
            most_held=self._options.eta_task_limit,
            others=max(0, waiting - held - room - len(self._paused_queues)),
            batch_room=room,
            message_size=self._ledger.bytes_held // waiting if waiting else 0,
            byte_budget=_BYTE_BUDGET,
            since_swap=now - self._swapped,
            since_wanted=now - self._wanted,
            pause=prefetch.PAUSE_QUORUM if quorum else prefetch.PAUSE_CLASSIC,
            first=self._first,
            since_long=now - self._long,
            resized=self._sized_for != self._size.limit,
        )
