"""The consumers of one channel: which tag stands for which queue, with what window.

Part of ``amqp.consume.session``, in the master. Changes are made one at a time, because a window is set by a qos
request that applies to whatever consumer starts next. It must never close the channel or settle a delivery.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.amqp.channel_calls import ChannelCalls
    from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.consume.consumer")

#: The window is a u16 on the wire; beyond it, as with 0, there is no limit.
LARGEST_WINDOW = 65535


@dataclass(frozen=True, slots=True)
class Consumer:
    """One running consumer."""

    queue: Queue
    tag: str


@dataclass(slots=True)
class _Wanted:
    """A queue that ought to be consumed, and its consumer when there is one."""

    queue: Queue
    #: Its window stays what it was at the start.
    fixed: bool
    running: Consumer | None = None


class ConsumerTable:
    """Consumers by tag, and by queue. ``paused`` ones are remembered and not running."""

    def __init__(
        self,
        window: int,
        fixed_window: int,
        timeouts: ConsumerTimeouts | None = None,
        version: tuple[int, ...] = (),
    ) -> None:
        """``window`` is the prefetch count now, ``fixed_window`` that of queues whose window may not change.

        ``timeouts`` says what a broker of this ``version`` is asked for; None: nothing.
        """
        self._timeouts = timeouts
        self._version = version
        self.paused = False
        #: The queue for which a consumer is being asked: when the channel closes now, this is why.
        self.asking: str | None = None
        self.window = window
        self._fixed_window = fixed_window
        self._numbers = itertools.count(1)
        self._turn = asyncio.Lock()
        self._by_tag: dict[bytes, Consumer] = {}
        #: Tags of those that were cancelled, until that is answered: a second time it would not be.
        self._ending: set[bytes] = set()
        self._wanted: dict[str, _Wanted] = {}

    @property
    def names(self) -> frozenset[str]:
        """The queues that are consumed, or would be but for a pause."""
        return frozenset(self._wanted)

    def by_tag(self, tag: bytes) -> Consumer | None:
        """Whose deliveries carry ``tag``."""
        return self._by_tag.get(tag)

    def forget(self, tag: bytes) -> tuple[Consumer | None, bool]:
        """Forget a consumer that the broker has ended: which it was, and whether its queue has no other now."""
        consumer = self._by_tag.pop(tag, None)
        if consumer is None:
            return None, False
        wanted = self._wanted.get(consumer.queue.name)
        if wanted is None or wanted.running is not consumer:
            return consumer, False
        del self._wanted[consumer.queue.name]
        return consumer, True

    async def consume(self, calls: ChannelCalls, queue: Queue, *, known: bool) -> None:
        """Start a consumer, unless paused or running already. Raises ``ChannelGone``.

        ``known``: the queue is certainly what it was declared as. Of one that is not, the window is never
        changed: it may allow a single active consumer, which then would get nothing any more.
        """
        async with self._turn:
            if queue.name not in self._wanted:
                wanted = _Wanted(queue, fixed=queue.window_is_fixed or not known)
                self._wanted[queue.name] = wanted
                await self._start(calls, wanted)

    async def _start(self, calls: ChannelCalls, wanted: _Wanted) -> None:
        queue = wanted.queue
        if self.paused and not queue.always_consumed:
            return
        window = self._fixed_window if wanted.fixed else self.window
        if queue.lease:
            window = 0
        if not queue.no_ack:
            await calls.limit(window if 0 <= window <= LARGEST_WINDOW else 0)
        consumer = Consumer(queue, f"turbo-{next(self._numbers)}")
        # Known before the request leaves: deliveries may follow Consume-Ok in the same bytes. Not known before the
        # window is set: whoever gives up while that is answered leaves no consumer that was never asked for.
        self._by_tag[consumer.tag.encode()] = consumer
        wanted.running = consumer
        self.asking = queue.name
        try:
            await calls.consume(
                queue.name,
                consumer.tag,
                self._arguments(queue),
                exclusive=queue.exclusive_consumer,
                no_ack=queue.no_ack,
            )
        finally:
            self.asking = None

    def _arguments(self, queue: Queue) -> Mapping[str, object]:
        if self._timeouts is None or queue.lease:
            return queue.consumer_arguments
        # A classic queue ignores the argument, so what it is declared as decides.
        return self._timeouts.asked_for(queue, self._version, quorum=queue.quorum).consumer_arguments

    async def _stop(self, calls: ChannelCalls, consumer: Consumer) -> None:
        tag = consumer.tag.encode()
        if tag not in self._by_tag or tag in self._ending:
            return
        self._ending.add(tag)
        await calls.cancel(consumer.tag)
        # Only now: deliveries may come until Cancel-Ok, and they are as good as any.
        self._by_tag.pop(tag, None)
        self._ending.discard(tag)

    async def remove(self, calls: ChannelCalls, name: str) -> None:
        """Stop consuming a queue. Raises ``ChannelGone``."""
        async with self._turn:
            wanted = self._wanted.pop(name, None)
            if wanted is not None and wanted.running is not None:
                await self._stop(calls, wanted.running)

    def drop(self, name: str) -> None:
        """Forget the consumer of a queue that is about to be deleted, and so its end is no news."""
        wanted = self._wanted.pop(name, None)
        if wanted is not None and wanted.running is not None:
            self._by_tag.pop(wanted.running.tag.encode(), None)

    async def catch_up(self, calls: ChannelCalls) -> bool:
        """Return True when the broker has read all that was sent on the channel. Raises ``ChannelGone``."""
        async with self._turn:
            # Any question would do. This one changes nothing: a window is set anew before each consumer.
            await calls.limit(0)
        return True

    async def pause(self, calls: ChannelCalls) -> None:
        """Stop all consumers of tasks, also those of changes that were given up. Raises ``ChannelGone``."""
        self.paused = True
        async with self._turn:
            for wanted in self._wanted.values():
                if not wanted.queue.always_consumed:
                    wanted.running = None
            for consumer in list(self._by_tag.values()):
                if not consumer.queue.always_consumed:
                    await self._stop(calls, consumer)

    async def resume(self, calls: ChannelCalls) -> None:
        """Start what was paused. Raises ``ChannelGone``."""
        self.paused = False
        async with self._turn:
            for wanted in list(self._wanted.values()):
                if wanted.running is None:
                    await self._start(calls, wanted)

    async def swap(self, calls: ChannelCalls, count: int) -> bool:
        """Change the window; False when a queue had to keep its own. Raises ``ChannelGone``.

        A new consumer starts, then the old one ends; both windows count until the old one's tags are settled.
        """
        self.window = count
        everywhere = True
        async with self._turn:
            for wanted in list(self._wanted.values()):
                old = wanted.running
                if wanted.queue.always_consumed:
                    continue
                if wanted.fixed:
                    everywhere = False
                elif old is not None:
                    await self._start(calls, wanted)
                    await self._stop(calls, old)
        return everywhere
