"""What turbo set out to reach, and whether a run shows it.

Two yardsticks: Celery, and the turbo before the work on its speed began, which runs in the same round because the ratio
to Celery moves with the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.results import Run

    Runs = Mapping[tuple[str, str], Run]

#: Types of queues, the one that a goal without a type is about first.
_KINDS = ("quorum", "classic")


def run_of(runs: Runs, bench: str, variant: str) -> Run | None:
    """The run of that measure; a star in ``variant`` stands for the type of the queue."""
    for kind in _KINDS:
        if found := runs.get((bench, variant.replace("*", kind))):
            return found
    return None


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of turbo's, as a ratio to ``against`` (or as it is, when that is empty), and its bound.

    ``reason`` is the heading in notes.md below which stands why it is missed.
    """

    what: str
    bench: str
    variant: str
    metric: str
    against: str
    bound: float
    at_least: bool = True
    ours: str = "turbo"
    reason: str = ""

    def reading(self, runs: Runs) -> float | None:
        """The ratio or figure that the latest run shows; None without one."""
        run = run_of(runs, self.bench, self.variant)
        if run is None:
            return None
        if not self.against:
            return run.median(self.ours, self.metric)
        return run.ratio(self.metric, self.ours, self.against)

    def reached(self, value: float) -> bool:
        """Whether ``value`` is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def missed(self, runs: Runs) -> bool:
        """Whether it was measured and is missed."""
        value = self.reading(runs)
        return value is not None and not self.reached(value)


@dataclass(frozen=True, slots=True)
class Aim:
    """One measure with its goals: a bound for each yardstick.

    ``way`` follows the names of turbo in the labels, as in ``turbo adopted``.
    """

    what: str
    bench: str
    variant: str
    metric: str
    old: float
    celery: float
    reason: str
    at_least: bool = True
    way: str = ""

    def goals(self) -> Iterable[Goal]:
        """The goals: against the old turbo and against Celery."""
        ours = f"turbo{self.way}"
        for against, bound in ((f"turbo-old{self.way}", self.old), ("celery", self.celery)):
            yield Goal(
                self.what, self.bench, self.variant, self.metric, against, bound, self.at_least, ours, self.reason
            )


_QUORUM, _CLASSIC = ("drain", "none-quorum-c2"), ("drain", "none-classic-c2")
_REDIS, _RPC = ("drain", "redis-classic-c2"), ("drain", "rpc-classic-c2")
_ONE, _ONE_LATE = ("drain", "none-classic-c2-multiplier1"), ("drain", "none-classic-c2-multiplier1-late")
_RATE, _CPU = "tasks_per_s", "cpu_us_per_task"
_WINDOW, _EVENTS = "A window of one message a child", "Task events"
_APP, _MASTER = "A Celery app", "The master's processor time at `-c 32`"
_AIMS = (
    Aim("drain, quorum queue", *_QUORUM, _RATE, 1.1, 9, "Drain"),
    Aim("drain, classic queue", *_CLASSIC, _RATE, 1.08, 5.8, "Drain"),
    Aim("`worker_prefetch_multiplier=1`", *_ONE, _RATE, 2, 3.5, _WINDOW),
    Aim("`worker_prefetch_multiplier=1`, `acks_late`", *_ONE_LATE, _RATE, 1.5, 3, _WINDOW),
    Aim("`worker_prefetch_multiplier=1`, `--prefetch adaptive`", *_ONE, _RATE, 1.05, 8.7, _WINDOW,
        way=" adaptive"),
    Aim("results in Redis, classic queue", *_REDIS, _RATE, 1.05, 8.5, "Results"),
    Aim("results over rpc, classic queue", *_RPC, _RATE, 1.05, 6, "Results"),
    Aim("a Celery app, unmodified, classic queue", *_CLASSIC, _RATE, 1.1, 4, _APP, way=" adopted"),
    Aim("a Celery app, results in Redis", *_REDIS, _RATE, 1.1, 6, _APP, way=" adopted"),
    Aim("a Celery app, results over rpc", *_RPC, _RATE, 1.1, 4.3, _APP, way=" adopted"),
    Aim("worker CPU a task, classic queue", *_CLASSIC, _CPU, 0.93, 0.11, "Drain", at_least=False),
    Aim("publish to start, p50 at 200/s", "latency", "*", "p50_ms_at_200", 0.9, 0.7, "Latency",
        at_least=False),
    Aim("publish to start, p99 at 1,000/s", "latency", "*", "p99_ms_at_1000", 0.9, 0.4, "Latency",
        at_least=False),
    Aim("idle memory (PSS), `-c 2`", "memory", "*", "idle_mib", 0.9, 0.6, "Idle memory", at_least=False),
    Aim("messages of 1 MB", "large", "classic", _RATE, 1.2, 4.2, "1 MB messages"),
)  # fmt: skip


#: Goals that compare turbo with itself under another load, or with no yardstick.
_BESIDE_ITSELF = (
    Goal("throughput kept with `-E`", *_QUORUM, _RATE, "turbo", 0.85, ours="turbo -E", reason=_EVENTS),
    Goal("master CPU per task, `-c 32` against `-c 2`", "scale", "*", "master_cpu_us_per_task", "turbo -c 2", 1.15,
         at_least=False, ours="turbo -c 32", reason=_MASTER),
    Goal("50 children, tasks that wait 10 ms: share of the ideal rate", "io", "*-c50-10ms", "share_of_ideal", "", 0.97,
         reason="Tasks that wait"),
)  # fmt: skip

GOALS = (*(goal for aim in _AIMS for goal in aim.goals()), *_BESIDE_ITSELF)

#: Goals that were set before anything had been measured, and that no later goal took the place of.
FAR_GOALS = (
    Goal("drain, quorum queue", *_QUORUM, _RATE, "celery", 12, reason="Drain"),
    Goal("drain, classic queue", *_CLASSIC, _RATE, "celery", 10, reason="Drain"),
    Goal("drain, classic queue", *_CLASSIC, _RATE, "dramatiq", 3, reason="Drain"),
    Goal("drain, classic queue", *_CLASSIC, _RATE, "null", 0.6, reason="Drain"),
    Goal("results in Redis, classic queue", *_REDIS, _RATE, "celery", 8, reason="Results"),
    Goal("results over rpc, classic queue", *_RPC, _RATE, "celery", 8, reason="Results"),
    Goal("a Celery app, unmodified, classic queue", *_CLASSIC, _RATE, "celery", 5, ours="turbo adopted", reason=_APP),
    Goal("a Celery app, results in Redis", *_REDIS, _RATE, "celery", 3, ours="turbo adopted", reason=_APP),
    Goal("worker CPU a task, classic queue", *_CLASSIC, _CPU, "celery", 0.12, at_least=False, reason="Drain"),
    Goal("publish to start, p50 at 200/s", "latency", "*", "p50_ms_at_200", "celery", 0.5, at_least=False,
         reason="Latency"),
    Goal("publish to start, p99 at 1,000/s", "latency", "*", "p99_ms_at_1000", "celery", 0.3, at_least=False,
         reason="Latency"),
    Goal("idle memory (PSS), `-c 2`", "memory", "*", "idle_mib", "celery", 0.5, at_least=False, reason="Idle memory"),
    Goal("each further child, MiB", "memory", "*", "idle_mib_per_further_child", "", 6, at_least=False,
         reason="Idle memory"),
    Goal("`inspect ping` at full load, p99, ms", "control", "*", "ping_p99_ms", "", 100, at_least=False),
    Goal("command to first task done", "startup", "*", "seconds_to_first_task", "celery", 0.5, at_least=False),
    Goal("master CPU per task, `-c 32` against `-c 2`", "scale", "*", "master_cpu_us_per_task", "turbo -c 2", 1.2,
         at_least=False, ours="turbo -c 32", reason=_MASTER),
    Goal("makespan of a mixed load against the ideal", "fairness", "*", "of_ideal", "", 1.05, at_least=False),
    Goal("messages of 1 MB", "large", "classic", _RATE, "celery", 4, reason="1 MB messages"),
    Goal("processor time of a child to decode and trace a no-op task", "trace", "*", "us_per_task", "celery", 0.5,
         at_least=False),
    Goal("`delay` without confirms, calls a second", "enqueue", "*", "calls_per_s", "celery unconfirmed", 3,
         ours="turbo unconfirmed", reason="Calls of `delay`"),
    Goal("`delay` in a pipeline, all confirmed", "enqueue", "*", "calls_per_s", "celery unconfirmed", 1.5,
         ours="turbo pipeline", reason="Calls of `delay`"),
    Goal("`delay`, each call waiting for its confirm", "enqueue", "*", "calls_per_s", "celery unconfirmed", 1.5,
         ours="turbo confirmed", reason="Calls of `delay`"),
    Goal("tasks that wait 5 ms: coroutines against functions, `-c 2`", "waiting", "*", _RATE, "turbo functions", 3,
         ours="turbo coroutines"),
)  # fmt: skip
