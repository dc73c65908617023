"""How long short tasks wait when a few long ones are among them, at a steady rate that the worker can carry.

By default 200 tasks a second come to ``-c 8``: 1 in 100 takes 0.5 s, the others 5 ms, which keeps a quarter of the
children busy. A short task waits only if it was put behind a long one, or if the worker is slow to hand it out.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.messages import TIME
from bench.processes import BenchError
from bench.statistics import percentile
from bench.workers import Marks

if TYPE_CHECKING:
    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

#: Tasks before those that count.
_WARM_UP = 100


@dataclass(frozen=True, slots=True)
class Flow:
    """``rate`` tasks a second for ``seconds``: every ``one_in``-th takes ``slow`` seconds, the others ``fast``."""

    rate: int = 200
    seconds: float = 10
    one_in: int = 100
    fast: float = 0.005
    slow: float = 0.5
    seed: int = 27

    def durations(self) -> list[float]:
        """The duration of each task, in the order of publishing; the first hundred are short."""
        tasks = int(self.rate * self.seconds)
        slow = tasks // self.one_in
        mixed = [self.slow] * slow + [self.fast] * (tasks - slow)
        random.Random(self.seed).shuffle(mixed)
        return [self.fast] * _WARM_UP + mixed


def mixed(stage: Stage, flow: Flow, each: Contender) -> Metrics:
    """One round of one contender: milliseconds from the write of a message to its task's first line."""
    durations = flow.durations()
    with stage.wire() as wire, stage.wire() as publisher, Marks(width=4) as marks:
        templates = {known: stage.template(wire, each, "work", (TIME, known)) for known in (flow.fast, flow.slow)}
        stage.fresh_queue(wire, each)
        published: list[int] = []
        with stage.worker(each, marks) as worker:
            worker.wait_for("its consumer", lambda: wire.consumers(each.queue) > 0, 60)
            due = time.monotonic()
            for duration in durations:
                due += 1 / flow.rate
                time.sleep(max(0.0, due - time.monotonic()))
                published.append(time.monotonic_ns())
                publisher.publish_now(each.queue, *templates[duration].stamped(published[-1]))
            worker.wait_count(len(durations), 60)
        stage.check_drained(wire, each, marks, len(durations))
        starts = {code: begun for code, begun, *_ in marks.read()}
        wire.delete(each.queue)
    if starts.keys() != set(published):
        raise BenchError(f"{each.label}: some tasks ran twice and others never")
    waits = [(starts[at] - at) / 1e6 for at in published]
    counted = zip(waits[_WARM_UP:], durations[_WARM_UP:], strict=True)
    short = sorted(wait for wait, duration in counted if duration == flow.fast)
    return {"fast_p50_ms": percentile(short, 50), "fast_p99_ms": percentile(short, 99), "fast_worst_ms": short[-1]}
