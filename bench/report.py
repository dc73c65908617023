"""``python -m bench report``: the newest result of each measure as a Markdown page with plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.contenders import ROOT
from bench.goals import GOALS
from bench.processes import BenchError
from bench.results import Run, latest
from bench.svg import Bar, bars, figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = ROOT / "bench" / "notes.md"

#: Measure -> what it is, and the metrics that are plotted: name, title, unit.
_ABOUT: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "drain": ("The queue is filled with confirmed messages before the worker starts. The time is measured from "
              "the end of the first task to the end of the last (with results: until the last result is stored).",
              (("tasks_per_s", "Drain", "tasks/s, more is better"),
               ("cpu_us_per_task", "Processor time of the worker", "µs a task, less is better"))),
    "waiting": ("A queue of 5,000 tasks that each wait 5 ms, once as `async def` and once as `def`; two children.",
                (("tasks_per_s", "Tasks that wait 5 ms", "tasks/s, more is better"),)),
    "large": ("A queue of 1,000 messages whose argument is a string of 1 MB.",
              (("tasks_per_s", "Messages of 1 MB", "tasks/s, more is better"),)),
    "scale": ("Draining no-op tasks with 2 and with 32 children.",
              (("master_cpu_us_per_task", "Processor time of the master", "µs a task, less is better"),)),
    "latency": ("Time from the publisher's write to the task's first line, at a steady rate.",
                (("p50_ms_at_200", "Publish to start, p50 at 200/s", "ms, less is better"),
                 ("p99_ms_at_1000", "Publish to start, p99 at 1,000/s", "ms, less is better"))),
    "memory": ("PSS of the whole process tree: `idle` is before any task, `used` is idle again after 1,000 tasks.",
               (("idle_mib", "Idle memory at -c 2", "MiB, less is better"),
                ("idle_mib_per_further_child", "Each further child", "MiB, less is better"))),
    "startup": ("Time from the start of the command to the end of the first task. The message waits in the queue, and "
                "the files are in the page cache.",
                (("seconds_to_first_task", "Command to first task", "s, less is better"),)),
    "fairness": ("A shuffled queue of 2,000 tasks with `-c 4`: 1 in 100 sleeps 1 s, the others 5 ms. The ideal is a "
                 "dispatcher without cost that gives each free child the next message.",
                 (("of_ideal", "Makespan, mixed load", "of the ideal, less is better"),)),
    "control": ("Repeated `inspect ping` while a queue of no-op tasks is drained: time from the write of the request "
                "to the arrival of the answer. turbo drains 100,000 tasks and Celery 20,000, each as fast as it can.",
                (("ping_p99_ms", "inspect ping at full load, p99", "ms, less is better"),)),
    "enqueue": ("5,000 calls of `delay` in one thread, without a consumer: without confirms, with each call waiting "
                "for its confirm, and in a pipeline, which waits for all confirms at its end.",
                (("calls_per_s", "Calls of delay", "calls/s, more is better"),
                 ("cpu_us_per_call", "Processor time of a call", "µs, less is better"))),
    "rings": ("Records of 200 bytes go to a child, which claims them, copies them and reports as many bytes back: "
              "`batch` with 64 records in flight, `single` with one.",
              (("batch_us", "A record through the rings and back", "µs, less is better"),)),
    "trace": ("Processor time of a child for a no-op task, in one process without a broker. turbo: decoded and run by "
              "its executor. Celery: run by its tracer, with the request that its master creates from the headers. "
              "`with_transport` adds turbo's rings, or the pickling through pipes of Celery's pool.",
              (("us_per_task", "Decoding and tracing a no-op task", "µs a task, less is better"),)),
    "trace-less": ("turbo with and without decoding and running tasks; connection, rings and children are the same.",
                   (("tasks_per_s", "With and without decoding and tracing", "tasks/s, more is better"),)),
}  # fmt: skip


def write_report(source: Path, page: Path = PAGE) -> list[Path]:
    """Write ``page`` and its plots from the results in ``source``; the files written."""
    runs = latest(source)
    if not runs:
        raise BenchError(f"{source} has no results: run a measure first")
    plots = page.parent / page.stem
    plots.mkdir(parents=True, exist_ok=True)
    for stale in plots.glob("*.svg"):
        stale.unlink()
    written = [page]
    sections: list[str] = []
    for name, (about, metrics) in _ABOUT.items():
        for run in (found for (bench, _), found in runs.items() if bench == name):
            lines = [f"## {name}: {run.variant}", "", about, ""]
            for metric, title, unit in metrics:
                path = plots / f"{name}-{run.variant}-{metric}.svg"
                path.write_text(_plot(run, metric, f"{title} ({run.variant})", unit))
                written.append(path)
                lines.append(f"![{title}]({page.stem}/{path.name})")
            sections.append("\n".join([*lines, "", *_table(run), ""]))
    page.write_text("\n".join([*_head(runs), *_goals(runs), *_notes(), *sections]).rstrip() + "\n")
    return written


def _head(runs: Mapping[tuple[str, str], Run]) -> list[str]:
    newest = max(runs.values(), key=lambda run: run.when)
    versions = {name: value for run in runs.values() for name, value in run.versions.items()}
    machine = newest.machine
    peers = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [
        "# Benchmarks",
        "",
        "`python -m bench report` writes this page from the files in `bench/results`; do not edit it. Everything "
        "ran on one machine, servers and workers together, all with default settings. Contenders alternate round "
        "by round. Figures are medians over the rounds; a ratio is the median of the ratios within each round. "
        "Absolute figures depend on the machine, so compare the ratios. Every round checks that each task ran "
        "exactly once and that no message was returned to the queue.",
        "",
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memory']}; {machine['system']}",
        f"- Python {machine['python']}, RabbitMQ {machine['rabbitmq']}, Redis {machine['redis']}; {peers}",
        f"- newest run: {newest.when[:10]}; each section below names its date and its commit of turbo",
        "",
    ]


def _goals(runs: Mapping[tuple[str, str], Run]) -> list[str]:
    lines = ["| measure | compared with | measured | goal | reached |", "|---|---|---|---|---|"]
    for goal in GOALS:
        value = goal.reading(runs)
        unit = "x" if goal.against else ""
        bound = f"{'>=' if goal.at_least else '<='} {goal.bound:g}{unit}"
        shown = "not measured" if value is None else figure(value) + unit
        verdict = "" if value is None else "yes" if goal.reached(value) else "**no**"
        lines.append(f"| {goal.what} | {goal.against} | {shown} | {bound} | {verdict} |")
    return [*lines, ""]


def _notes() -> list[str]:
    """The hand-written notes about the figures, if any."""
    return [NOTES.read_text().strip(), ""] if NOTES.exists() else []


def _table(run: Run) -> list[str]:
    lines = [f"Median (lowest to highest) of {run.rounds} rounds, {run.when[:10]}, commit {run.commit}.", ""]
    lines += [f"| | {' | '.join(run.contenders)} |", "|---|" + "---|" * len(run.contenders)]
    for metric in run.metrics:
        cells = []
        for each in run.contenders:
            values = [value for value in run.series(each, metric) if value is not None]
            middle = run.median(each, metric)
            cells.append(
                "-" if middle is None else f"{figure(middle)} ({figure(min(values))} to {figure(max(values))})"
            )
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    if run.failures():
        lines += ["", f"{run.failures()} readings failed; the result file says why."]
    return lines


def _plot(run: Run, metric: str, title: str, unit: str) -> str:
    rows = []
    for each in run.contenders:
        middle = run.median(each, metric)
        if middle is not None:
            rounds = tuple(value for value in run.series(each, metric) if value is not None)
            rows.append(Bar(each, middle, rounds, each.startswith("turbo")))
    return bars(title, unit, rows)
