"""Whether a few slow tasks delay the many fast ones behind them.

By default 2,000 tasks wait in the queue, 1 in 100 sleeps 1 s and the rest 5 ms. The ideal is the makespan of a
dispatcher without cost that gives each free child the next message.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.statistics import percentile
from bench.workers import Marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contenders import Contender
    from bench.stage import Metrics, Stage


@dataclass(frozen=True, slots=True)
class Mix:
    """``tasks`` of ``fast`` seconds, every ``one_in``-th of ``slow`` seconds, in an order fixed by ``seed``."""

    tasks: int = 2000
    one_in: int = 100
    fast: float = 0.005
    slow: float = 1.0
    seed: int = 27

    def durations(self) -> list[float]:
        """The duration of each task, in the order of the queue."""
        slow = self.tasks // self.one_in
        mixed = [self.slow] * slow + [self.fast] * (self.tasks - slow)
        random.Random(self.seed).shuffle(mixed)
        return mixed


def ideal_makespan(durations: Sequence[float], children: int) -> float:
    """Seconds that take ``children`` to work through ``durations`` in order, each taking the next when free."""
    free_at = [0.0] * children
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


def fairness(stage: Stage, mix: Mix, contender: Contender) -> Metrics:
    """One round of one contender."""
    durations = mix.durations()
    with stage.wire() as wire, Marks(width=2) as marks:
        templates = {each: stage.template(wire, contender, "pause", (each,)) for each in (mix.fast, mix.slow)}
        stage.fresh_queue(wire, contender)
        wire.publish(contender.queue, (next(templates[each].copies(1)) for each in durations))
        with stage.worker(contender, marks) as worker:
            worker.wait_count(mix.tasks, 60)
        stage.check_drained(wire, contender, marks, mix.tasks)
        records = marks.read()
        wire.delete(contender.queue)
    first = min(begun for begun, _ in records)
    seconds = (max(done for _, done in records) - first) / 1e9
    fast = sorted((begun - first) / 1e9 for begun, done in records if (done - begun) / 1e9 < mix.slow / 2)
    return {
        "makespan_s": seconds,
        "of_ideal": seconds / ideal_makespan(durations, contender.concurrency),
        "of_perfectly_divided": seconds / (sum(durations) / contender.concurrency),
        "fast_tasks_p50_start_s": percentile(fast, 50),
    }
