"""The consumers of one channel, with the queue and prefetch window of each tag.

Part of ``amqp.consume.session``, in the master. Changes are made one at a time, because a qos request sets the window
of whichever consumer starts next. It must never close the channel or settle a delivery.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.amqp.channel_calls import ChannelCalls
    from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.consume.consumer")

#: The window is a u16 on the wire; beyond it, as with 0, there is no limit.
LARGEST_WINDOW = 65535
#: Stopped consumers that are remembered. A queue has one more with each change of its window.
_REMEMBERED = 64


@unique
class Pause(Enum):
    """Which consumers of tasks are stopped."""

    NONE = "none"
    #: Those that can come back as they were. The others keep their place in the queue, or the queue itself.
    BUT_KEPT = "but kept"
    ALL = "all"

    def stops(self, queue: Queue) -> bool:
        """Return whether the consumers of a queue are stopped."""
        if self is Pause.NONE or queue.always_consumed:
            return False
        return self is Pause.ALL or not queue.keeps_consumer


@dataclass(frozen=True, slots=True)
class Consumer:
    """One running consumer."""

    queue: Queue
    tag: str


@dataclass(slots=True)
class _Wanted:
    """A queue to consume, and its consumer when there is one."""

    queue: Queue
    #: The window keeps its first value.
    fixed: bool
    running: Consumer | None = None
    #: Consumers that were added beside it to widen the window.
    added: list[Consumer] = field(default_factory=list)


class ConsumerTable:
    """Consumers by tag and by queue. Paused consumers are remembered but not running."""

    def __init__(
        self,
        window: int,
        fixed_window: int,
        timeouts: ConsumerTimeouts | None = None,
        version: tuple[int, ...] = (),
    ) -> None:
        """``window``: the current prefetch count. ``fixed_window``: for fixed queues.

        ``timeouts``: the timeouts to ask a broker of this ``version`` for; None asks for none.
        """
        self._timeouts = timeouts
        self._version = version
        self.paused = Pause.NONE
        #: The queue of the Consume request that is unanswered; a channel that closes now closes because of it.
        self.asking: str | None = None
        self.window = window
        self._fixed_window = fixed_window
        self._numbers = itertools.count(1)
        self._lock = asyncio.Lock()
        self._by_tag: dict[bytes, Consumer] = {}
        #: Tags with an unanswered Cancel. A second Cancel of the same tag would get no answer.
        self._ending: set[bytes] = set()
        #: The newest stopped consumers: a delivery that was on its way may follow the broker's Cancel-Ok.
        self._stopped: dict[bytes, Consumer] = {}
        self._wanted: dict[str, _Wanted] = {}

    @property
    def names(self) -> frozenset[str]:
        """The queues that are consumed, or would be without a pause."""
        return frozenset(self._wanted)

    def by_tag(self, tag: bytes) -> Consumer | None:
        """Return the consumer whose deliveries carry ``tag``, which may have been stopped.

        None: not one of ours.
        """
        return self._by_tag.get(tag) or self._stopped.get(tag)

    def running_tags(self) -> frozenset[bytes]:
        """Return the tags of the consumers whose windows count."""
        return frozenset().union(*map(self.tags_of, self._wanted))

    def tags_of(self, name: str) -> frozenset[bytes]:
        """Return the tags of the consumers of a queue that run here."""
        wanted = self._wanted.get(name)
        return frozenset() if wanted is None else frozenset(consumer.tag.encode() for consumer in _all(wanted))

    def forget(self, tag: bytes) -> tuple[Consumer | None, bool]:
        """Forget a consumer that the broker ended.

        Return it, and whether its queue now has none.
        """
        consumer = self._by_tag.pop(tag, None)
        if consumer is None:
            return None, False
        wanted = self._wanted.get(consumer.queue.name)
        if wanted is not None and consumer in wanted.added:
            wanted.added.remove(consumer)
        if wanted is None or wanted.running is not consumer:
            return consumer, False
        if wanted.added:
            wanted.running = wanted.added.pop()
            return consumer, False
        del self._wanted[consumer.queue.name]
        return consumer, True

    async def consume(self, calls: ChannelCalls, queue: Queue, *, known: bool) -> None:
        """Start a consumer unless it is paused or already running. Raises ``ChannelGone``.

        ``known``: the queue certainly is what it was declared as. Otherwise its window never changes: it may be a
        single active consumer queue, where a second consumer would receive nothing.
        """
        async with self._lock:
            if queue.name not in self._wanted:
                wanted = _Wanted(queue, fixed=queue.window_is_fixed or not known)
                self._wanted[queue.name] = wanted
                await self._start(calls, wanted)

    async def _start(self, calls: ChannelCalls, wanted: _Wanted, added: int = 0) -> None:
        """Start a queue's consumer, or one that widens its window by ``added``."""
        queue = wanted.queue
        if self.paused.stops(queue):
            return
        window = added or (self._fixed_window if wanted.fixed else self.window)
        if queue.lease:
            window = 0
        if not queue.no_ack:
            await calls.limit(window if 0 <= window <= LARGEST_WINDOW else 0)
        consumer = Consumer(queue, f"turbo-{next(self._numbers)}")
        # Registered before the request is sent, since deliveries may arrive in the same bytes as Consume-Ok. Registered
        # after the window is set, so that a cancelled wait leaves no consumer that was never requested.
        self._by_tag[consumer.tag.encode()] = consumer
        if added:
            wanted.added.append(consumer)
        else:
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
        # A classic queue ignores the argument, so the declared type decides.
        return self._timeouts.asked_for(queue, self._version, quorum=queue.quorum).consumer_arguments

    async def _stop(self, calls: ChannelCalls, consumer: Consumer) -> None:
        tag = consumer.tag.encode()
        if tag not in self._by_tag or tag in self._ending:
            return
        self._ending.add(tag)
        await calls.cancel(consumer.tag)
        if self._by_tag.pop(tag, None) is not None:
            # RabbitMQ 4.0 was seen to deliver after Cancel-Ok. Such a delivery is as good as any.
            self._stopped[tag] = consumer
            if len(self._stopped) > _REMEMBERED:
                del self._stopped[next(iter(self._stopped))]
        self._ending.discard(tag)

    async def remove(self, calls: ChannelCalls, name: str) -> None:
        """Stop consuming a queue. Raises ``ChannelGone``."""
        async with self._lock:
            wanted = self._wanted.pop(name, None)
            if wanted is not None:
                for consumer in _all(wanted):
                    await self._stop(calls, consumer)

    def drop(self, name: str) -> None:
        """Forget the consumer of a queue that is about to be deleted.

        So its end is not reported.
        """
        wanted = self._wanted.pop(name, None)
        if wanted is not None and wanted.running is not None:
            self._by_tag.pop(wanted.running.tag.encode(), None)

    async def catch_up(self, calls: ChannelCalls) -> bool:
        """Return True when the broker has read everything sent on the channel.

        Raises ``ChannelGone``.
        """
        async with self._lock:
            # Any request with an answer would do. This one changes nothing: each new consumer sets its window first.
            await calls.limit(0)
        return True

    async def pause(self, calls: ChannelCalls, which: Pause = Pause.ALL) -> None:
        """Stop task consumers, including those left by abandoned changes.

        Raises ``ChannelGone``.
        """
        self.paused = which
        async with self._lock:
            for wanted in self._wanted.values():
                if which.stops(wanted.queue):
                    wanted.running = None
                    wanted.added.clear()
            for consumer in list(self._by_tag.values()):
                if which.stops(consumer.queue):
                    await self._stop(calls, consumer)

    async def resume(self, calls: ChannelCalls) -> None:
        """Start the paused consumers. Raises ``ChannelGone``."""
        self.paused = Pause.NONE
        async with self._lock:
            for wanted in list(self._wanted.values()):
                if wanted.running is None:
                    await self._start(calls, wanted)

    async def swap(self, calls: ChannelCalls, count: int, *, add: bool = False) -> bool:
        """Change the window; False when a queue had to keep its window.

        Raises ``ChannelGone``. The new consumer starts before the old one ends; both windows count until the old
        consumer's tags are settled. With ``add`` a wider window is the sum of the old consumer's and another one's.
        """
        wider = count - self.window if add else 0
        self.window = count
        everywhere = True
        async with self._lock:
            for wanted in list(self._wanted.values()):
                old = wanted.running
                if wanted.queue.always_consumed:
                    continue
                if wanted.fixed:
                    everywhere = False
                elif old is not None and wider > 0:
                    await self._start(calls, wanted, wider)
                elif old is not None:
                    stopped = _all(wanted)
                    wanted.added.clear()
                    await self._start(calls, wanted)
                    for consumer in stopped:
                        await self._stop(calls, consumer)
        return everywhere


def _all(wanted: _Wanted) -> list[Consumer]:
    return [*([] if wanted.running is None else [wanted.running]), *wanted.added]
