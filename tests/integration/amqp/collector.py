"""Helpers of the AMQP tests: a sink, a probe of the loop's lag, a plain publisher."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path

import amqp
import pika
import uvloop
from pika import frame

from tests.harness.processes import wait_until
from turbo.amqp.consume.link import BrokerLink
from turbo.amqp.frame_splitter import RawDelivery
from turbo.amqp.topology import Queue, task_queue
from turbo.amqp.url import parse_broker_urls

PERSISTENT = pika.BasicProperties(delivery_mode=2, headers={"id": "x"})


def run(work: Coroutine[object, object, None]) -> None:
    """Run a test's coroutine on uvloop, which the master uses."""
    uvloop.run(asyncio.wait_for(work, 160))


class Collector:
    """Takes deliveries, acknowledges them if asked to, and records all events."""

    def __init__(self, *, ack: bool = True) -> None:
        self.ack = ack
        self.link: BrokerLink | None = None
        self.bodies: list[bytes] = []
        self.deliveries: list[tuple[int, str, int]] = []
        self.raw: list[RawDelivery] = []
        self.events: list[tuple[str, int, str]] = []
        self._changed = asyncio.Event()

    def on_deliveries(self, epoch: int, queue: str, batch: list[RawDelivery]) -> None:
        assert self.link is not None
        for delivery in batch:
            self.bodies.append(delivery[3])
            self.raw.append(delivery)
            self.deliveries.append((epoch, queue, delivery[0]))
            if self.ack:
                self.link.ack(epoch, delivery[0])
        self._changed.set()

    def on_session_up(self, epoch: int) -> None:
        self.events.append(("up", epoch, ""))
        self._changed.set()

    def on_session_lost(self, epoch: int, reason: str) -> None:
        self.events.append(("lost", epoch, reason))
        self._changed.set()

    def on_consumer_cancelled(self, epoch: int, queue: str, consumer_tag: str) -> list[int]:
        self.events.append(("cancelled", epoch, queue))
        self._changed.set()
        return [tag for session, name, tag in self.deliveries if (session, name) == (epoch, queue) and not self.ack]

    def on_lease_copies(self, epoch: int, batch: list[RawDelivery]) -> None:
        self.on_deliveries(epoch, "lease", batch)

    def saw(self, kind: str) -> bool:
        return any(event[0] == kind for event in self.events)

    async def until(self, reached: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Wait until an event makes ``reached`` true."""
        try:
            async with asyncio.timeout(timeout):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"{what} not within {timeout} s: {len(self.bodies)} deliveries, {self.events}"
            ) from None


@contextlib.asynccontextmanager
async def linked(
    url: str | Sequence[str],
    queues: Iterable[Queue | str],
    sink: Collector,
    *,
    prefetch_count: int = 100,
    heartbeat: float = 60,
    ready: bool = True,
    **options: object,
) -> AsyncIterator[BrokerLink]:
    """Yield a started link; it is stopped at the end."""
    wanted = [task_queue(each) if isinstance(each, str) else each for each in queues]
    link = BrokerLink(parse_broker_urls(url), wanted, prefetch_count=prefetch_count, heartbeat=heartbeat, **options)
    sink.link = link
    await link.start(sink)
    try:
        if ready:
            assert await link.wait_ready(60), link.last_error
        yield link
    finally:
        await link.stop(time.monotonic() + 5)


@contextlib.contextmanager
def channel_to(url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """Return a plain pika channel with confirms."""
    address = parse_broker_urls(url)[0]
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(address.host, address.port, address.vhost, heartbeat=0)
    )
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        if connection.is_open:
            connection.close()


def publish(url: str, queue: str, bodies: Iterable[bytes], *, declare: bool = True) -> None:
    """Publish messages to a queue; return when the broker has confirmed all of them.

    Messages are sent without waiting for the previous confirm, because a quorum queue writes each to disk first.
    """
    address = parse_broker_urls(url)[0]
    with amqp.Connection(f"{address.host}:{address.port}", virtual_host=address.vhost) as connection:
        channel = connection.channel()
        if declare:
            channel.queue_declare(queue, durable=True, auto_delete=False)
        unconfirmed: set[int] = set()

        def confirmed(tag: int, multiple: bool) -> None:
            unconfirmed.difference_update([each for each in unconfirmed if each <= tag] if multiple else [tag])

        def refused(tag: int, multiple: bool) -> None:
            raise AssertionError(f"the broker refused message {tag} for {queue} ({multiple=})")

        channel.confirm_select()
        channel.events["basic_ack"].add(confirmed)
        channel.events["basic_nack"].add(refused)
        for tag, body in enumerate(bodies, 1):
            unconfirmed.add(tag)
            message = amqp.Message(body, delivery_mode=2, application_headers={"id": "x"})
            channel.basic_publish(message, routing_key=queue)
        while unconfirmed:
            connection.drain_events(timeout=60)


async def come_to(reached: Callable[[], bool], what: str, timeout: float = 60) -> None:
    """Wait for a change that no event tells of."""
    try:
        async with asyncio.timeout(timeout):
            while not reached():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {timeout:g} s") from None


def wait_depth(url: str, queue: str, count: int) -> None:
    """Wait until a queue has so many ready messages: what a connection held returns some time after its end."""
    with channel_to(url) as channel:

        def ready() -> int:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

        wait_until(f"{count} messages in {queue}", lambda: ready() == count, 60)


def header_payload(size: int, properties: pika.BasicProperties = PERSISTENT) -> bytes:
    """Return a content-header payload for a body of ``size`` bytes."""
    return bytes(frame.Header(1, size, properties).marshal()[7:-1])


class LagProbe:
    """Records the longest time for which the loop was blocked by its own callbacks.

    The time in which the thread was runnable but other threads had the CPU is subtracted, as it depends on the machine.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LagProbe:
        self._task = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            before, waited = time.monotonic(), _waited_for_processor()
            await asyncio.sleep(0.002)
            stood = time.monotonic() - before - 0.002
            self.worst = max(self.worst, stood - (_waited_for_processor() - waited))


def _waited_for_processor() -> float:
    """Return the seconds for which this thread was runnable but not running, from /proc."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
