"""I/O load: many tasks that wait and compute nothing, as many at once as the concurrency says.

Each task waits as long as its argument says, 10 ms to 1 s by default. The share of the ideal is the part of their time
in which the slots were waiting for a task, until the last task begins: 1 is a dispatcher without cost.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import meters
from bench.messages import TIME
from bench.processes import BenchError
from bench.workers import Marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

#: The part of the time until the last task begins that does not count: children start one after another.
_RUN_IN = 0.1
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Waits:
    """``tasks`` of ``shortest`` to ``longest`` seconds, as many short as long ones, in an order fixed by ``seed``."""

    tasks: int
    shortest: float = 0.01
    longest: float = 1.0
    seed: int = 27

    def nanoseconds(self) -> list[int]:
        """What each task waits, in the order of the queue; no two are the same, so each tells its task."""
        chance = random.Random(self.seed)
        span = math.log(self.longest / self.shortest)
        waits = (self.shortest * math.exp(span * chance.random()) for _ in range(self.tasks))
        return [int(wait * 1e5) * 10_000 + number for number, wait in enumerate(waits)]

    def __str__(self) -> str:
        times = [f"{each * 1000:g}" for each in (self.shortest, self.longest)]
        return f"{times[0]}ms" if times[0] == times[1] else f"{times[0]}-{times[1]}ms"


def waiting_tasks(stage: Stage, waits: Waits, each: Contender) -> Metrics:
    """One round of one contender."""
    planned = waits.nanoseconds()
    task = "wait_async" if each.pool == "coroutines" and each.messages == "celery" else "wait"
    with stage.wire() as wire, Marks(width=4) as marks:
        template = stage.template(wire, each, task, (TIME,))
        stage.fresh_queue(wire, each)
        wire.publish(each.queue, (template.stamped(wait) for wait in planned))
        with stage.worker(each, marks) as worker:
            worker.wait_for("its first task", lambda: marks.count() > 0, 60)
            cpu, counted = worker.cpu(), marks.count()
            worker.wait_count(waits.tasks, 60)
            used, memory = worker.cpu().since(cpu), meters.pss(worker.pid)
        stage.check_drained(wire, each, marks, waits.tasks)
        records = marks.read()
        wire.delete(each.queue)
    if sorted(record[0] for record in records) != sorted(planned):
        raise BenchError(f"{each.label}: some tasks ran twice and others never")
    begun, ended = min(record[1] for record in records), max(record[2] for record in records)
    return {
        "tasks_per_s": waits.tasks / (ended - begun) * 1e9,
        "share_of_ideal": busy_share([(start, start + wait) for wait, start, *_ in records], each.concurrency),
        "cpu_us_per_task": used.total / (waits.tasks - counted) * 1e6,
        "used_mib": memory / _MIB,
    }


def busy_share(spans: Sequence[tuple[int, int]], slots: int) -> float:
    """The part of the slots' time that the spans fill, from a tenth of the way on until the last one begins."""
    first, last = min(begun for begun, _ in spans), max(begun for begun, _ in spans)
    start = first + (last - first) * _RUN_IN
    filled = sum(max(0.0, min(ended, last) - max(begun, start)) for begun, ended in spans)
    return filled / (slots * (last - start))
