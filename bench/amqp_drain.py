"""How fast a prefilled queue is drained, and at what CPU cost: `BrokerLink` against plain pika.

    python -m bench.amqp_drain --url amqp://guest:guest@127.0.0.1:5672// [--messages 30000] [--runs 3]

Both consumers do nothing but acknowledge, both with multiple acks, both on uvloop; runs are interleaved because
the rate of a classic queue drifts by half between runs (compare CPU a message first, rates second). The message
is the size of Celery's for `add.delay(2, 2)`. The producer is idle while the queue drains: this is not the rate of
a live system, and no task runs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pika
import uvloop
from pika.adapters.asyncio_connection import AsyncioConnection

from turbo.amqp.consume.link import BrokerLink
from turbo.amqp.topology import task_queue
from turbo.amqp.url import BrokerAddress, parameters, parse_broker_urls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turbo.amqp.frame_splitter import RawDelivery

QUEUE = "turbo-bench-drain"
BODY = b'[[2, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
HEADERS = {
    "lang": "py", "task": "tasks.add", "id": "c1c7b0a0-25a5-4a6b-9c5e-9a3b7f4c2d10", "shadow": None, "eta": None,
    "expires": None, "group": None, "group_index": None, "retries": 0, "timelimit": [None, None],
    "root_id": "c1c7b0a0-25a5-4a6b-9c5e-9a3b7f4c2d10", "parent_id": None, "argsrepr": "(2, 2)", "kwargsrepr": "{}",
    "origin": "gen4242@host.example", "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None,
    "stamps": {},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drained:
    """One run: wall and CPU seconds from the first delivery to the last."""

    messages: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of this process's CPU a message."""
        return self.cpu / self.messages * 1e6


class Watch:
    """Starts with the first delivery, ends with the last."""

    def __init__(self, messages: int) -> None:
        self.wanted = messages
        self.seen = 0
        self.done = asyncio.Event()
        self._began = (0.0, 0.0)
        self.result: Drained | None = None

    def count(self, number: int) -> None:
        """Note deliveries."""
        if not self.seen:
            self._began = (time.perf_counter(), time.process_time())
        self.seen += number
        if self.seen >= self.wanted and self.result is None:
            wall, cpu = self._began
            self.result = Drained(self.seen, time.perf_counter() - wall, time.process_time() - cpu)
            self.done.set()


class AckAll:
    """The sink of the link: acknowledges at once."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.link: BrokerLink | None = None

    def on_deliveries(self, epoch: int, queue: str, batch: list[RawDelivery]) -> None:
        """Acknowledge and count."""
        assert self.link is not None
        ack = self.link.ack
        for delivery in batch:
            ack(epoch, delivery[0])
        self.watch.count(len(batch))

    def on_session_up(self, epoch: int) -> None:
        """Nothing to do."""

    def on_session_lost(self, epoch: int, reason: str) -> None:
        """The run is over."""

    def on_consumer_cancelled(self, epoch: int, queue: str) -> None:
        """Not expected; the run would then not end."""


async def drain_by_link(address: BrokerAddress, messages: int, prefetch: int) -> Drained:
    """The way of the worker."""
    watch = Watch(messages)
    sink = AckAll(watch)
    link = BrokerLink([address], [task_queue(QUEUE)], prefetch_count=prefetch)
    sink.link = link
    await link.start(sink)
    await watch.done.wait()
    await link.stop(time.monotonic() + 5)
    assert watch.result is not None
    return watch.result


async def drain_by_pika(address: BrokerAddress, messages: int, prefetch: int) -> Drained:
    """pika's asyncio connection as its manual shows it, with one multiple ack a turn of the loop."""
    loop = asyncio.get_running_loop()
    watch = Watch(messages)
    closed = loop.create_future()
    newest = 0
    marked = False

    def flush() -> None:
        nonlocal marked
        marked = False
        channel.basic_ack(newest, multiple=True)

    def on_message(_channel: object, method: pika.spec.Basic.Deliver, _properties: object, _body: bytes) -> None:
        nonlocal newest, marked
        newest = method.delivery_tag
        if not marked:
            marked = True
            loop.call_soon(flush)
        watch.count(1)

    opened = loop.create_future()
    connection = AsyncioConnection(
        parameters(address),
        on_open_callback=opened.set_result,
        on_close_callback=lambda *_: closed.set_result(None),
    )
    await opened
    ready = loop.create_future()
    channel = connection.channel(on_open_callback=ready.set_result)
    await ready
    channel.basic_qos(prefetch_count=prefetch)
    channel.basic_consume(QUEUE, on_message)
    await watch.done.wait()
    await asyncio.sleep(0.1)
    connection.close()
    await closed
    assert watch.result is not None
    return watch.result


def fill(address: BrokerAddress, messages: int) -> None:
    """Put the messages there, persistent."""
    connection = pika.BlockingConnection(parameters(address, heartbeat=0))
    channel = connection.channel()
    queue = task_queue(QUEUE)
    channel.exchange_declare(queue.exchange.name, queue.exchange.type, durable=True)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_purge(QUEUE)
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=HEADERS,
        delivery_mode=2,
        priority=0,
        correlation_id="c1c7b0a0-25a5-4a6b-9c5e-9a3b7f4c2d10",
        reply_to="5f2d0c3e-0b52-3f3a-8d52-1ad2c0b5a001",
    )
    for _ in range(messages):
        channel.basic_publish("", QUEUE, BODY, properties)
    connection.close()


def clear(address: BrokerAddress) -> int:
    """Delete what the bench made; how many messages were left."""
    connection = pika.BlockingConnection(parameters(address, heartbeat=0))
    channel = connection.channel()
    left = channel.queue_declare(QUEUE, passive=True).method.message_count
    channel.queue_delete(QUEUE)
    channel.exchange_delete(QUEUE)
    connection.close()
    return int(left)


def main() -> None:
    """Run what the command line asks for and print one line a run."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", default="amqp://")
    arguments.add_argument("--messages", type=int, default=30_000)
    arguments.add_argument("--prefetch", type=int, default=256)
    arguments.add_argument("--runs", type=int, default=3)
    given = arguments.parse_args()
    address = parse_broker_urls(given.url)[0]
    ways: dict[str, Callable[[BrokerAddress, int, int], Awaitable[Drained]]] = {
        "link": drain_by_link,
        "pika": drain_by_pika,
    }
    results: dict[str, list[Drained]] = {name: [] for name in ways}
    for _ in range(given.runs):
        for name, way in ways.items():
            fill(address, given.messages)
            drained = uvloop.run(way(address, given.messages, given.prefetch))  # type: ignore[arg-type]
            left = clear(address)
            results[name].append(drained)
            print(f"{name}: {drained.rate:8.0f} msg/s {drained.cpu_us:6.2f} us CPU/msg, {left} left")
    for name, runs in results.items():
        rate = statistics.median(each.rate for each in runs)
        cpu = statistics.median(each.cpu_us for each in runs)
        print(f"median {name}: {rate:.0f} msg/s, {cpu:.2f} us CPU/msg")


if __name__ == "__main__":
    main()
