"""One epoch of consuming: a channel, its consumers and its unsettled tags.

``amqp.consume.link`` makes a session in the master on an open connection. The session ends when its channel or
connection closes. Deliveries go to the sink; settlements come back and are sent once per pass of the event loop.
Nothing of a session may outlive it: after ``on_session_lost`` every tag of the epoch is void, because the broker has
requeued those messages.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import TYPE_CHECKING, Any, Protocol

from turbo import failpoint
from turbo.amqp.channel_calls import ChannelCalls, ChannelGone
from turbo.amqp.consume.ack_ledger import AckLedger, settle_frames
from turbo.amqp.consume.consumer import Pause
from turbo.amqp.consume.ended_consumers import EndedConsumers
from turbo.amqp.declarer import Declared
from turbo.amqp.delayed_delivery import uses_cascade
from turbo.amqp.write_coalescer import REST, WriteCoalescer
from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from turbo.amqp.consume.consumer import ConsumerTable
    from turbo.amqp.declarer import Declarer
    from turbo.amqp.fast_connection import FastConnection
    from turbo.amqp.frame_splitter import RawDelivery
    from turbo.amqp.refusals import Refusals
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.consume.session")

#: Retry delays of a queue that cannot be consumed while others can.
QUEUE_BACKOFF = Backoff(first=0.5, factor=2.0, cap=30.0)
#: Retry delays of a queue whose consumer was refused: each refusal closes the channel and voids every tag.
REFUSED_BACKOFF = Backoff(first=0.5, factor=4.0, cap=600.0)


_CANCELLED = (
    "Queue %r: the broker cancelled a consumer (its queue is deleted or moved, or its consumer timeout has passed) and "
    "took back %d unsettled messages; the worker consumes the queue again when that is possible"
)


class DeliverySink(Protocol):
    """Receives the deliveries.

    Called in the pass of the event loop that read them. It must return quickly and not raise.
    """

    def on_deliveries(self, epoch: int, queue: str, batch: list[RawDelivery]) -> None:
        """Messages of one queue, in the order of the broker."""

    def on_session_up(self, epoch: int) -> None:
        """A session began; deliveries of ``epoch`` follow."""

    def on_session_lost(self, epoch: int, reason: str) -> None:
        """Every unsettled tag of ``epoch`` is void.

        The broker delivers those messages again, to any worker.
        """

    def on_consumer_cancelled(self, epoch: int, queue: str, consumer_tag: str) -> list[int]:
        """Return the tags of messages that the broker took back with a consumer's end."""

    def on_lease_copies(self, epoch: int, batch: list[RawDelivery]) -> None:
        """Copies of deliveries that this worker holds, from a lease queue."""


class Session:
    """The consuming side of one channel; ``lost`` resolves to why it is over."""

    def __init__(
        self,
        epoch: int,
        connection: FastConnection,
        declarer: Declarer,
        sink: DeliverySink,
        refusals: Refusals,
        consumers: ConsumerTable,
        on_change: Callable[[], None],
    ) -> None:
        """``on_change`` is called when :attr:`consumed` changes while the session is open."""
        self.epoch = epoch
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._sink = sink
        self._refusals = refusals
        self._on_change = on_change
        #: The queue whose consumer the broker refused, which closed the channel.
        self.refused: str | None = None
        self._loop = asyncio.get_running_loop()
        self.declarer = declarer
        self._ledger = AckLedger()
        self._coalescer = WriteCoalescer(self._flush, loop=self._loop, rest=REST)
        #: Unsent settlements; a quarter of the window is written at once.
        self._unsent = 0
        self.consumers = consumers
        self._calls: ChannelCalls | None = None
        self._number = 0
        self._up = False
        #: Whether tags of this epoch can be settled.
        self.alive = False
        self._revivals: dict[str, asyncio.Task[None]] = {}
        self._ended = EndedConsumers(connection, self._loop)

    # -- life

    async def open(self, queues: Iterable[Queue], *, paused: Callable[[], Pause]) -> None:
        """Open the channel, declare, and consume what ``paused`` does not stop.

        A queue that is unusable or refused its consumer is retried in the background. Raises ``ChannelGone``.
        """
        wanted = list(queues)
        calls = await ChannelCalls.open(self._connection, self._channel_closed)
        self._calls = calls
        self._number = self._ended.channel = calls.number
        self.consumers.paused = paused()
        calls.channel.add_on_cancel_callback(self._cancelled_by_broker)
        self._connection.watch_channel(self._number, self._take_batch)
        self._up, self.alive = True, not self.lost.done()
        self._sink.on_session_up(self.epoch)
        for queue in wanted:
            refused = self._refusals.count(queue.name)
            if refused:
                self._revive_later(queue, refused=refused)
            else:
                await self.add(queue)
        if delayed := [queue for queue in wanted if uses_cascade(queue)]:
            await self.declarer.declare_delays(delayed)

    def _channel_closed(self, gone: ChannelGone) -> None:
        refused = self.consumers.asking
        if gone.code and refused is not None:
            self._refusals.consumer_refused(refused, gone)
            self.refused = refused
        self.lose(str(gone))

    def lose(self, reason: str) -> None:
        """End the session and tell the sink: nothing can be settled. Idempotent."""
        self.alive = False
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._coalescer.cancel()
        if self._number and self._connection.watched_channel == self._number:
            self._connection.watch_channel(0)
        for task in self._revivals.values():
            task.cancel()
        self._revivals.clear()
        if self._up:
            self._sink.on_session_lost(self.epoch, reason)

    @property
    def consumed(self) -> frozenset[str]:
        """The consumed queues, paused ones included, refused ones not."""
        return self.consumers.names

    @property
    def outstanding(self) -> int:
        """Number of deliveries that the master has not settled."""
        return self._ledger.outstanding

    # -- deliveries and settlements

    def _take_batch(self, tag: bytes, batch: list[RawDelivery]) -> None:
        consumer = self.consumers.by_tag(tag)
        first, last = batch[0][0], batch[-1][0]
        if consumer is None:
            self._ledger.received(first, last)
            self._ended.refuse(tag)
            for delivery in batch:
                self.give_back(delivery[0], requeue=True, penalty=False)
            return
        if consumer.queue.no_ack:
            self._ledger.received_settled(first, last)
        else:
            self._ledger.received(first, last)
        if consumer.queue.lease:
            self._sink.on_lease_copies(self.epoch, batch)
        else:
            self._sink.on_deliveries(self.epoch, consumer.queue.name, batch)

    def ack(self, tag: int) -> bool:
        """Acknowledge at the end of this pass of the loop; False when the tag is not open."""
        if not self._ledger.ack(tag):
            return False
        unsent = self._unsent = self._unsent + 1
        urgent = unsent * 4 >= self.consumers.window
        if unsent == 1 or urgent:
            self._coalescer.mark(urgent=urgent)
        return True

    def give_back(self, tag: int, *, requeue: bool, penalty: bool) -> bool:
        """Reject at the end of this pass of the loop; False when the tag is not open."""
        if not self._ledger.give_back(tag, requeue=requeue, penalty=penalty):
            return False
        self._unsent += 1
        self._coalescer.mark(urgent=self._unsent * 4 >= self.consumers.window)
        return True

    def flush(self) -> None:
        """Send every settlement now."""
        if self.alive:
            self._coalescer.now()

    def _flush(self, last: bool) -> bool:
        self._unsent = 0
        settlement = self._ledger.take(stragglers=last)
        if settlement and self._calls is not None and self._calls.is_open:
            data, count = settle_frames(self._number, settlement)
            self._connection.emit_frames(data, count)
            if failpoint.ENABLED:
                failpoint.hit("master.after_ack")
        return self._ledger.waiting

    # -- consumers

    async def add(self, queue: Queue) -> None:
        """Declare and consume a queue, retried if it fails. Raises ``ChannelGone``."""
        if not await self._start(queue, wary=False):
            self._revive_later(queue)

    async def _start(self, queue: Queue, *, wary: bool) -> bool:
        if wary:
            # A refused consumer closes the channel and voids every tag, so inspect the queue on another channel first.
            facts = await self.declarer.inspect(queue.name)
            if facts is None or facts[1]:
                return False
        declared = await self.declarer.declare(queue)
        if declared is Declared.REFUSED:
            return False
        await self.consumers.consume(self._need_calls(), queue, known=declared is Declared.AS_ASKED)
        self._refusals.accepted(queue.name)
        return True

    def _need_calls(self) -> ChannelCalls:
        if self._calls is None or self.lost.done():
            raise ChannelGone(0, "the session is over")
        return self._calls

    def _revive_later(self, queue: Queue, *, refused: int = 0) -> None:
        if (old := self._revivals.pop(queue.name, None)) is not None:
            old.cancel()
        task = self._loop.create_task(self._revive(queue, refused))
        self._revivals[queue.name] = task
        task.add_done_callback(lambda done: self._revived(queue.name, done))

    def _revived(self, name: str, task: asyncio.Task[None]) -> None:
        if self._revivals.get(name) is task:
            del self._revivals[name]
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ChannelGone):
            logger.error("Queue %r: restarting its consumer failed; reconnecting", name, exc_info=error)
            self._connection.abandon(f"the consumer of {name!r} could not be restarted")

    async def _revive(self, queue: Queue, refused: int) -> None:
        if refused:
            await asyncio.sleep(reconnect_delay(refused, random.random(), REFUSED_BACKOFF))
        for failures in itertools.count(1):
            await asyncio.sleep(reconnect_delay(failures, random.random(), QUEUE_BACKOFF))
            if await self._start(queue, wary=bool(refused)):
                logger.info("Queue %r: consuming again", queue.name)
                self._on_change()
                return

    def _cancelled_by_broker(self, frame: Any) -> None:
        """Handle a Cancel: the queue is gone or moved, or the consumer timeout passed."""
        tag = str(frame.method.consumer_tag)
        consumer, current = self.consumers.forget(tag.encode())
        if consumer is None or not self.alive:
            return
        name = consumer.queue.name
        # RabbitMQ 4.3 takes back the messages of a timed-out consumer but keeps the consumer, so cancel it as well.
        self._ended.end(tag.encode())
        void = self._sink.on_consumer_cancelled(self.epoch, name, tag)
        self._ledger.void(void)
        logger.warning(_CANCELLED, name, len(void))
        if current and not consumer.queue.lease:
            self._on_change()
            self._revive_later(consumer.queue)

    async def start_lease(self, queue: Queue) -> bool:
        """Open a lease queue; False when it is refused. Raises ``ChannelGone``."""
        return await self._start(queue, wary=False)

    async def end_lease(self, queue: Queue) -> bool:
        """Delete an empty lease queue. Raises ``ChannelGone``."""
        self.consumers.drop(queue.name)
        return await self.declarer.delete(queue.name)

    async def start_parking(self, queue: Queue) -> bool:
        """Route delay queues to ``queue``; False: refused. Raises ``ChannelGone``."""
        return await self.declarer.declare_parking(queue)

    async def catch_up(self) -> bool:
        """Return True when the broker has read everything sent. Raises ``ChannelGone``."""
        return await self.consumers.catch_up(self._need_calls())

    async def remove(self, name: str) -> None:
        """Stop consuming one queue. Raises ``ChannelGone``."""
        if (task := self._revivals.pop(name, None)) is not None:
            task.cancel()
        await self.consumers.remove(self._need_calls(), name)

    async def pause(self, which: Pause = Pause.ALL) -> None:
        """Cancel consumers; their tags can still be settled. Raises ``ChannelGone``."""
        await self.consumers.pause(self._need_calls(), which)

    async def resume(self) -> None:
        """Consume again after :meth:`pause`. Raises ``ChannelGone``."""
        await self.consumers.resume(self._need_calls())

    async def swap_window(self, count: int, *, add: bool = False) -> bool:
        """Change the window; False if one had to stay. Raises ``ChannelGone``."""
        return await self.consumers.swap(self._need_calls(), count, add=add)

    async def purge(self, names: Iterable[str]) -> int:
        """Delete the ready messages of queues and return their number."""
        return sum([await self.declarer.purge(name) for name in names])
