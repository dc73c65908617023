"""How fast a worker empties a filled queue, and what processor time a task costs.

Measures `drain` (no-op tasks) and `large` (1 MB arguments).
The clock runs from the first task done to the last; each task appends the time to a file. With results, it
runs on until the last result is stored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import meters
from bench.contenders import FAST, Contender
from bench.processes import BenchError
from bench.workers import Marks, Worker

if TYPE_CHECKING:
    from bench.amqp import Wire
    from bench.messages import Template
    from bench.stage import Metrics, Stage


@dataclass(frozen=True, slots=True)
class Load:
    """What is drained: ``task`` with ``arguments``, so many of them (the fast peers get ``fast_tasks``)."""

    task: str
    arguments: tuple[object, ...]
    tasks: int
    fast_tasks: int

    def count(self, contender: Contender) -> int:
        """How many this contender gets."""
        return self.fast_tasks if contender.peer in FAST else self.tasks


def drain(stage: Stage, load: Load, contender: Contender) -> Metrics:
    """One round of one contender."""
    count = load.count(contender)
    with stage.wire() as wire, Marks() as marks:
        template = stage.template(wire, contender, load.task, load.arguments)
        stage.fill(wire, contender, template, count)
        results = _Results(stage, wire, template)
        worker = stage.worker(contender, marks)
        with worker:
            worker.wait_for("its first task", lambda: marks.count() > 0, 60)
            cpu, broker, counted = worker.cpu(), meters.cpu(stage.servers.rabbitmq.pid), marks.count()
            worker.wait_count(count, 60)
            stored = results.wait(worker, count)
            used = worker.cpu().since(cpu)
            broker_used = meters.cpu(stage.servers.rabbitmq.pid).since(broker)
            ended = worker.stop()
        stage.check_drained(wire, contender, marks, count)
        results.check(count)
        times = [record[0] for record in marks.read()]
        wire.delete(contender.queue)
    if not ended:
        raise BenchError(f"{contender.label} did not end within its time after SIGTERM")
    seconds = (max(max(times), stored) - min(times)) / 1e9
    metrics = {"tasks_per_s": (count - 1) / seconds}
    left = count - counted
    if left < count / 2:
        return metrics  # over before the first look: too few tasks to say what one costs
    return metrics | {
        "cpu_us_per_task": used.total / left * 1e6,
        "master_cpu_us_per_task": used.root / left * 1e6,
        "children_cpu_us_per_task": used.rest / left * 1e6,
        "broker_cpu_us_per_task": broker_used.total / left * 1e6,
    }


class _Results:
    """Where the results of a round go, and whether all have arrived."""

    def __init__(self, stage: Stage, wire: Wire, template: Template) -> None:
        self._stage = stage
        self._wire = wire
        self._reply_to = template.reply_to
        if stage.results == "redis":
            stage.servers.redis.clear()
        elif stage.results == "rpc":
            wire.delete(self._reply_to)
            wire.declare(self._reply_to, durable=False)

    def stored(self) -> int:
        """How many there are now."""
        if self._stage.results == "redis":
            return self._stage.servers.redis.size()
        return self._wire.depth(self._reply_to)

    def wait(self, worker: Worker, count: int) -> int:
        """Wait for all; when that was, in nanoseconds (0 without results)."""
        if self._stage.results == "none":
            return 0
        worker.wait_for(f"{count} results", lambda: self.stored() >= count, 60)
        return time.monotonic_ns()

    def check(self, count: int) -> None:
        """Afterwards: one for each task, no more. Forgets them."""
        if self._stage.results == "none":
            return
        stored = self.stored()
        if stored != count:
            raise BenchError(f"{stored} results for {count} tasks")
        if self._stage.results == "redis":
            self._stage.servers.redis.clear()
        else:
            self._wire.delete(self._reply_to)
