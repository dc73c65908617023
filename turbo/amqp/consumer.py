"""The consumers of one channel: which tag stands for which queue, with what window.

Part of ``amqp.session``, in the master. Changes are made one at a time, because a window is set by a qos
request that applies to whatever consumer starts next. It must never close the channel or settle a delivery.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo.amqp.channel_calls import ChannelCalls
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.consumer")

#: The window is a u16 on the wire; beyond it, as with 0, there is no limit.
LARGEST_WINDOW = 65535


@dataclass(frozen=True, slots=True)
class Consumer:
    """One running consumer."""

    queue: Queue
    tag: str


class ConsumerTable:
    """Consumers by tag, and by queue. ``paused`` ones are remembered and not running."""

    def __init__(self, *, window: int, fixed_window: int) -> None:
        self.paused = False
        self._window = window
        self._fixed_window = fixed_window
        self._numbers = itertools.count(1)
        self._turn = asyncio.Lock()
        self._by_tag: dict[bytes, Consumer] = {}
        #: Queues that ought to be consumed, with their running consumer.
        self._wanted: dict[str, tuple[Queue, Consumer | None]] = {}

    def by_tag(self, tag: bytes) -> Consumer | None:
        """Whose deliveries carry ``tag``."""
        return self._by_tag.get(tag)

    def forget(self, tag: bytes) -> Consumer | None:
        """The broker ended a consumer; None when it was an old one that nobody wants."""
        consumer = self._by_tag.pop(tag, None)
        if consumer is None:
            return None
        name = consumer.queue.name
        if self._wanted.get(name, (None, None))[1] is not consumer:
            return None
        del self._wanted[name]
        return consumer

    async def consume(self, calls: ChannelCalls, queue: Queue) -> None:
        """Start a consumer, unless paused or running already. Raises ``ChannelGone``."""
        async with self._turn:
            running = self._wanted.get(queue.name, (queue, None))[1]
            if running is None:
                self._wanted[queue.name] = (queue, None)
                await self._start(calls, queue)

    async def _start(self, calls: ChannelCalls, queue: Queue) -> None:
        if self.paused and not queue.no_ack:
            return
        window = self._fixed_window if queue.window_is_fixed else self._window
        consumer = Consumer(queue, f"turbo-{next(self._numbers)}")
        # Known before the request leaves: deliveries may follow Consume-Ok in the same bytes.
        self._by_tag[consumer.tag.encode()] = consumer
        if not queue.no_ack:
            await calls.limit(window if 0 <= window <= LARGEST_WINDOW else 0)
        await calls.consume(
            queue.name,
            consumer.tag,
            queue.consumer_arguments,
            exclusive=queue.exclusive_consumer,
            no_ack=queue.no_ack,
        )
        self._wanted[queue.name] = (queue, consumer)

    async def _stop(self, calls: ChannelCalls, consumer: Consumer) -> None:
        if consumer.tag.encode() not in self._by_tag:
            return
        await calls.cancel(consumer.tag)
        # Only now: deliveries may come until Cancel-Ok, and they are as good as any.
        self._by_tag.pop(consumer.tag.encode(), None)

    async def remove(self, calls: ChannelCalls, name: str) -> None:
        """Stop consuming a queue. Raises ``ChannelGone``."""
        async with self._turn:
            _queue, consumer = self._wanted.pop(name, (None, None))
            if consumer is not None:
                await self._stop(calls, consumer)

    async def pause(self, calls: ChannelCalls) -> None:
        """Stop all consumers of tasks. Raises ``ChannelGone``."""
        self.paused = True
        async with self._turn:
            for name, (queue, consumer) in list(self._wanted.items()):
                if consumer is not None and not queue.no_ack:
                    self._wanted[name] = (queue, None)
                    await self._stop(calls, consumer)

    async def resume(self, calls: ChannelCalls) -> None:
        """Start what was paused. Raises ``ChannelGone``."""
        self.paused = False
        async with self._turn:
            for queue, consumer in list(self._wanted.values()):
                if consumer is None:
                    await self._start(calls, queue)

    async def swap(self, calls: ChannelCalls, count: int) -> None:
        """New window.

        A new consumer each, then the old one ends; both windows count until its tags are settled.
        """
        self._window = count
        async with self._turn:
            for queue, consumer in list(self._wanted.values()):
                if consumer is None or queue.window_is_fixed or queue.no_ack:
                    continue
                await self._start(calls, queue)
                await self._stop(calls, consumer)
