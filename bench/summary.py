"""The beginning of the page: what a reader wants to know first, computed from the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.goals import run_of
from bench.svg import figure

if TYPE_CHECKING:
    from bench.goals import Runs

_PARTS = ("", "", "half", "a third", "a quarter", "a fifth", "a sixth", "a seventh", "an eighth", "a ninth", "a tenth",
          "an eleventh", "a twelfth")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the first table: a metric of turbo and of Celery, by the labels of their contenders."""

    what: str
    bench: str
    variant: str
    metric: str
    more_is_better: bool = True
    ours: str = "turbo"
    theirs: str = "celery"


_QUORUM, _CLASSIC = ("drain", "none-quorum-c2"), ("drain", "none-classic-c2")
_ONE, _ONE_LATE = ("drain", "none-classic-c2-multiplier1"), ("drain", "none-classic-c2-multiplier1-late")
ROWS = (
    Row("no-op tasks a second, quorum queue", *_QUORUM, "tasks_per_s"),
    Row("the same, an unmodified Celery app", *_QUORUM, "tasks_per_s", ours="turbo adopted"),
    Row("no-op tasks a second, classic queue", *_CLASSIC, "tasks_per_s"),
    Row("classic queue, an unmodified Celery app", *_CLASSIC, "tasks_per_s", ours="turbo adopted"),
    Row("classic queue, `worker_prefetch_multiplier=1`", *_ONE, "tasks_per_s"),
    Row("classic queue, `worker_prefetch_multiplier=1`, `acks_late`", *_ONE_LATE, "tasks_per_s"),
    Row("classic queue, results in Redis", "drain", "redis-classic-c2", "tasks_per_s"),
    Row("classic queue, results over rpc", "drain", "rpc-classic-c2", "tasks_per_s"),
    Row("messages of 1 MB a second", "large", "classic", "tasks_per_s"),
    Row("core-seconds of the worker for a million no-op tasks, quorum queue", *_QUORUM, "cpu_us_per_task",
        more_is_better=False),
    Row("publish to start at 200 a second, p50, ms", "latency", "*", "p50_ms_at_200", more_is_better=False),
    Row("publish to start at 1,000 a second, p99, ms", "latency", "*", "p99_ms_at_1000", more_is_better=False),
    Row("wait of short tasks among long ones, p99, ms", "mixed", "*", "fast_p99_ms", more_is_better=False),
    Row("tasks that wait 10 ms to 1 s, 50 processes, tasks a second", "io", "*-c50-10-1000ms", "tasks_per_s"),
    Row("memory of those 50 processes, MiB", "io", "*-c50-10-1000ms", "used_mib", more_is_better=False),
    Row("the same in threads", "io", "*-c50-10-1000ms", "used_mib", more_is_better=False, ours="turbo threads",
        theirs="celery-threads"),
    Row("idle memory with two processes, MiB", "memory", "*", "idle_mib", more_is_better=False),
    Row("command to first task done, s", "startup", "*", "seconds_to_first_task", more_is_better=False),
    Row("worker killed and started again: seconds to the next task done", "recover", "worker-*", "recover_s",
        more_is_better=False),
    Row("child killed: seconds until its successor has done a task", "recover", "child-*", "recover_s",
        more_is_better=False),
    Row("workers killed, late acks: part of the tasks that ran", "recover", "worker-*", "delivery_ratio",
        ours="turbo requeue", theirs="celery requeue"),
    Row("children killed, late acks and requeue: part of the tasks that ran", "recover", "child-*", "delivery_ratio",
        ours="turbo requeue", theirs="celery requeue"),
)  # fmt: skip


def part(ratio: float) -> str:
    """A ratio below one in words when they fit within a twentieth: ``an eighth``; else in hundredths."""
    if 0 < ratio < 0.75:
        number = round(1 / ratio)
        if number < len(_PARTS) and abs(number * ratio - 1) <= 0.05:
            return _PARTS[number]
    return f"{ratio:.2g} times"


def lead(runs: Runs) -> list[str]:
    """The first lines of the page: sentences, then a table."""
    return [*_sentences(runs), "", *_table(runs), ""]


def _ratio(runs: Runs, row: Row) -> float | None:
    run = run_of(runs, row.bench, row.variant)
    return None if run is None else run.ratio(row.metric, row.ours, row.theirs)


def _sentences(runs: Runs) -> list[str]:
    by_name = {(row.bench, row.variant, row.metric, row.ours): row for row in ROWS}

    def of(bench: str, variant: str, metric: str, ours: str = "turbo") -> float | None:
        return _ratio(runs, by_name[bench, variant, metric, ours])

    told = []
    rate, cost = of(*_QUORUM, "tasks_per_s"), of(*_QUORUM, "cpu_us_per_task")
    if rate is not None and cost is not None:
        told.append(
            f"**turbo runs {rate:.1f} times as many no-op tasks a second as Celery's worker from a quorum queue, and a "
            f"task costs {part(cost)} {'of the' if not part(cost).endswith('times') else 'the'} processor time.**"
        )
    app, one = of(*_QUORUM, "tasks_per_s", "turbo adopted"), of(*_ONE, "tasks_per_s")
    if app is not None:
        told.append(f"An unmodified Celery app runs {app:.1f} times as many.")
    if one is not None:
        told.append(f"From a classic queue with `worker_prefetch_multiplier=1` it is {one:.1f} times as many.")
    memory = of("memory", "*", "idle_mib")
    if memory is not None:
        told.append(f"The idle worker takes {memory * 100:.0f} % of the memory.")
    recovery = run_of(runs, "recover", "worker-*")
    ours, theirs = (recovery and recovery.median(who, "recover_s") for who in ("turbo", "celery"))
    if ours is not None and theirs is not None:
        told.append(
            f"Killed with SIGKILL and started again, it ends its next task after {figure(ours)} s; Celery's worker "
            f"needs {figure(theirs)} s."
        )
    return [" ".join(told)] if told else []


def _table(runs: Runs) -> list[str]:
    lines = ["| | turbo | Celery | turbo / Celery |", "|---|---|---|---|"]
    for row in ROWS:
        run, ratio = run_of(runs, row.bench, row.variant), _ratio(runs, row)
        if run is None or ratio is None:
            continue
        ours, theirs = run.median(row.ours, row.metric), run.median(row.theirs, row.metric)
        if ours is None or theirs is None:
            continue
        better = ratio > 1 if row.more_is_better else ratio < 1
        shown = f"{figure(ratio)}x"
        lines.append(f"| {row.what} | {figure(ours)} | {figure(theirs)} | {f'**{shown}**' if better else shown} |")
    return lines if len(lines) > 2 else []
