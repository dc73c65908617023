"""The stage of one bench run: servers, queues filled and looked at, and rounds that alternate the contenders."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pika

from bench.amqp import Wire
from bench.messages import Template, capture
from bench.processes import BenchError, wait_until
from bench.workers import Marks, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.contenders import Contender
    from bench.servers import Servers

Metrics = dict[str, float]


@dataclass(slots=True)
class Stage:
    """Everything a measure needs beside its contenders. ``results`` is none, redis or rpc."""

    servers: Servers
    queue_type: str = "classic"
    results: str = "none"
    _templates: dict[tuple[str, str, str], Template] = field(default_factory=dict)

    def wire(self) -> Wire:
        """A new connection to the broker."""
        return Wire(self.servers.rabbitmq.port)

    def environment(self, contender: Contender) -> dict[str, str]:
        """The variables that tasks and workers read."""
        env = contender.environment(self.queue_type)
        env["BENCH_BROKER"] = self.servers.rabbitmq.url
        if self.results == "redis":
            env["BENCH_BACKEND"] = self.servers.redis.url
        elif self.results == "rpc":
            env["BENCH_BACKEND"] = "rpc://"
        return env

    def template(self, wire: Wire, contender: Contender, task: str, arguments: Sequence[object]) -> Template:
        """The message of ``task(*arguments)`` as the contender's producer sends it; captured once a run."""
        key = (contender.messages, task, repr(arguments)[:200])
        if key not in self._templates:
            wire.delete(contender.queue)
            env = self.environment(contender)
            self._templates[key] = capture(wire, contender, task, arguments, env=env)
        return self._templates[key]

    def fresh_queue(self, wire: Wire, contender: Contender) -> None:
        """An empty queue, declared as the worker will declare it."""
        wire.delete(contender.queue)
        wire.declare(contender.queue, contender.queue_arguments(self.queue_type))

    def fill(self, wire: Wire, contender: Contender, template: Template, count: int) -> None:
        """An otherwise empty queue with ``count`` confirmed messages."""
        self.fresh_queue(wire, contender)
        wire.publish(contender.queue, template.copies(count))
        depth = wire.depth(contender.queue)
        if depth != count:
            raise BenchError(f"{contender.queue} holds {depth} of {count} messages")

    def keep_events(self) -> None:
        """Have the broker put workers' events into a queue, as for a monitor; it keeps only the newest."""
        with pika.BlockingConnection(pika.URLParameters(self.servers.rabbitmq.url)) as connection:
            channel = connection.channel()
            channel.exchange_declare("celeryev", "topic", durable=True)
            channel.queue_declare("bench_events", arguments={"x-max-length": 1})
            channel.queue_bind("bench_events", "celeryev", "#")

    def worker(self, contender: Contender, marks: Marks) -> Worker:
        """The contender's worker, not started yet."""
        return Worker(contender, self.environment(contender), marks, self.servers.directory)

    def check_drained(self, wire: Wire, contender: Contender, marks: Marks, count: int) -> None:
        """After the worker has ended: every task ran once, and the queue got nothing back."""
        if marks.count() != count:
            raise BenchError(f"{contender.label}: {marks.count()} tasks ran, {count} were sent")
        # what a closed connection held comes back a moment later
        wait_until(f"{contender.queue} has no consumer", lambda: wire.consumers(contender.queue) == 0, 15)
        left = wire.depth(contender.queue)
        if left:
            raise BenchError(f"{contender.label}: {left} messages came back unacknowledged")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one contender reached in one round, or why it did not."""

    round: int
    contender: str
    metrics: Metrics
    load: float  # of the machine before the round, over one minute
    error: str = ""


def alternate(contenders: Sequence[Contender], rounds: int, measure: Callable[[Contender], Metrics]) -> list[Reading]:
    """Measure each contender in turn, ``rounds`` times over; prints a line for each."""
    readings: list[Reading] = []
    for number in range(1, rounds + 1):
        readings += one_round(contenders, number, measure)
    return readings


def one_round(contenders: Sequence[Contender], number: int, measure: Callable[[Contender], Metrics]) -> list[Reading]:
    """Measure each contender once, every other round in reverse, so that nobody always runs first."""
    readings: list[Reading] = []
    for each in contenders if number % 2 else reversed(contenders):
        load = os.getloadavg()[0]
        try:
            metrics, error = measure(each), ""
        except BenchError as failure:
            metrics, error = {}, str(failure)
            print(f"round {number}  {each.label}: {error}", file=sys.stderr, flush=True)
        readings.append(Reading(number, each.label, metrics, round(load, 2), error))
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in metrics.items())
        print(f"round {number}  {each.label:<20}{shown}", flush=True)
    return readings
