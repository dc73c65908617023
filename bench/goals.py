"""What turbo set out to reach, and whether a run shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.results import Run


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of turbo's, as a ratio to ``against`` (or as it is, when that is empty), and its bound."""

    what: str
    bench: str
    variant: str
    metric: str
    against: str
    bound: float
    at_least: bool = True
    ours: str = "turbo"

    def reading(self, runs: Mapping[tuple[str, str], Run]) -> float | None:
        """The ratio or figure that the latest run shows; None without one."""
        run = runs.get((self.bench, self.variant))
        if run is None:
            return None
        if not self.against:
            return run.median(self.ours, self.metric)
        return run.ratio(self.metric, self.ours, self.against)

    def reached(self, value: float) -> bool:
        """Whether ``value`` is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


_NOOP = ("drain", "none-classic-c2")
GOALS = (
    Goal("drain, no-op, results ignored, `-c 2`", *_NOOP, "tasks_per_s", "celery", 10),
    Goal("the same", *_NOOP, "tasks_per_s", "dramatiq", 3),
    Goal("the same", *_NOOP, "tasks_per_s", "null", 0.6),
    Goal("the same on a quorum queue", "drain", "none-quorum-c2", "tasks_per_s", "celery", 12),
    Goal("drain with Redis results", "drain", "redis-classic-c2", "tasks_per_s", "celery", 8),
    Goal("drain with rpc results", "drain", "rpc-classic-c2", "tasks_per_s", "celery", 8),
    Goal("a Celery app, unmodified: drain, results ignored", "drain", "none-classic-c2-celery-app", "tasks_per_s",
         "celery", 5),
    Goal("the same with Redis results", "drain", "redis-classic-c2-celery-app", "tasks_per_s", "celery", 3),
    Goal("worker CPU per no-op task", *_NOOP, "cpu_us_per_task", "celery", 0.12, at_least=False),
    Goal("publish to start, p50 at 200/s", "latency", "classic", "p50_ms_at_200", "celery", 0.5, at_least=False),
    Goal("publish to start, p99 at 1,000/s", "latency", "classic", "p99_ms_at_1000", "celery", 0.3,
         at_least=False),
    Goal("idle memory (PSS), `-c 2`", "memory", "classic", "idle_mib", "celery", 0.5, at_least=False),
    Goal("each further child, MiB", "memory", "classic", "idle_mib_per_further_child", "", 6, at_least=False),
    Goal("`inspect ping` at full load, p99, ms", "control", "classic", "ping_p99_ms", "", 100, at_least=False),
    Goal("command to first task done", "startup", "classic", "seconds_to_first_task", "celery", 0.5,
         at_least=False),
    Goal("master CPU per task, `-c 32` against `-c 2`", "scale", "classic", "master_cpu_us_per_task", "turbo -c 2",
         1.2, at_least=False, ours="turbo -c 32"),
    Goal("makespan of a mixed load against the ideal", "fairness", "classic", "of_ideal", "", 1.05,
         at_least=False),
    Goal("1,000 messages of 1 MB", "large", "classic", "tasks_per_s", "celery", 4),
    Goal("processor time of a child to decode and trace a no-op task", "trace", "classic", "us_per_task", "celery", 0.5,
         at_least=False),
    Goal("`delay` without confirms, calls a second", "enqueue", "classic", "calls_per_s", "celery unconfirmed", 3,
         ours="turbo unconfirmed"),
    Goal("`delay` in a pipeline, all confirmed", "enqueue", "classic", "calls_per_s", "celery unconfirmed", 1.5,
         ours="turbo pipeline"),
    Goal("`delay`, each call waiting for its confirm", "enqueue", "classic", "calls_per_s", "celery unconfirmed", 1.5,
         ours="turbo confirmed"),
    Goal("tasks that wait 5 ms: coroutines against functions, `-c 2`", "waiting", "classic", "tasks_per_s",
         "turbo functions", 3, ours="turbo coroutines"),
)  # fmt: skip
