"""``python -m bench report``: the newest result of each measure as a Markdown page with plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.contenders import ROOT
from bench.goals import FAR_GOALS, GOALS, Goal
from bench.labels import ABOUT, METRICS, in_words
from bench.processes import BenchError
from bench.results import Run, latest
from bench.suite import keys
from bench.summary import lead
from bench.svg import Bar, bars, figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.goals import Runs

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = ROOT / "bench" / "notes.md"


def write_report(source: Path, page: Path = PAGE) -> list[Path]:
    """Write ``page`` and its plots from the results in ``source``; the files written."""
    runs = latest(source)
    if not runs:
        raise BenchError(f"{source} has no results: run a measure first")
    shown = current(runs)
    plots = page.parent / page.stem
    plots.mkdir(parents=True, exist_ok=True)
    for stale in plots.glob("*.svg"):
        stale.unlink()
    written = [page]
    sections: list[str] = []
    for name, about in ABOUT.items():
        found = [run for (bench, _), run in shown.items() if bench == name]
        if found:
            sections += [f"## {about.title}", "", about.text, ""]
        for run in found:
            lines, paths = _section(run, plots, _newest(shown))
            sections += lines
            written += paths
    parts = [*_head(), *lead(shown), *_method(shown), *sections, *_goals(shown), *_notes(shown)]
    page.write_text("\n".join(parts).rstrip() + "\n")
    return written


def current(runs: Runs) -> dict[tuple[str, str], Run]:
    """The runs that the page shows: a measure's earlier runs with other settings give way to newer ones of the suite.

    A run whose key the suite has stays, whatever its age: nothing newer says the same.
    """
    known = keys()
    newest: dict[str, str] = {}
    for (bench, variant), run in runs.items():
        if (bench, variant) in known:
            newest[bench] = max(newest.get(bench, ""), run.when)
    return {key: run for key, run in runs.items() if key in known or run.when > newest.get(key[0], "")}


def notes() -> tuple[str, dict[str, str]]:
    """The hand-written notes: what comes before the first heading of the third level, and the text below each."""
    before, *parts = NOTES.read_text().split("\n### ")
    found = (part.partition("\n") for part in parts)
    return before.strip(), {heading.strip(): text.strip() for heading, _, text in found}


def _head() -> list[str]:
    return ["# Benchmarks", ""]


def _method(runs: Runs) -> list[str]:
    newest = _newest(runs)
    versions = {name: value for run in runs.values() for name, value in run.versions.items()}
    machine = newest.machine
    peers = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [
        "## Method",
        "",
        "`python -m bench report` writes this page from the files in `bench/results`; do not edit it. Everything "
        "ran on one machine, servers and workers together, all with default settings beside what is named. "
        "Contenders alternate round by round. Figures are medians over the rounds; a ratio is the median of the "
        "ratios within each round. Absolute figures depend on the machine, so compare the ratios. Every round "
        "checks that each task ran exactly once and that no message was returned to the queue; where workers are "
        "killed, what was lost and what ran again is counted.",
        "",
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memory']}; {machine['system']}",
        f"- Python {machine['python']}, RabbitMQ {machine['rabbitmq']}, Redis {machine['redis']}; {peers}",
        f"- newest run: {newest.when[:10]}; each section below names its date and its commit of turbo",
        "",
        notes()[0],
        "",
    ]


def _newest(runs: Runs) -> Run:
    return max(runs.values(), key=lambda run: run.when)


def _goals(runs: Runs) -> list[str]:
    lines = [
        "## Goals", "",
        "Against Celery, and against the turbo before the work on its speed began (`turbo-old`), which runs in the "
        "same round because the ratio to Celery moves with the machine.", "",
        *_goal_table(GOALS, runs), "",
        "The farther goals were set before anything had been measured.", "",
        *_goal_table(FAR_GOALS, runs), "",
    ]  # fmt: skip
    return lines


def _goal_table(goals: Sequence[Goal], runs: Runs) -> list[str]:
    """One line a goal."""
    lines = ["| measure | worker | compared with | measured | goal | reached |", "|---|---|---|---|---|---|"]
    for goal in goals:
        value = goal.reading(runs)
        verdict = "" if value is None else "yes" if goal.reached(value) else "**no**"
        shown, bound = _shown(goal, value), f"{'>=' if goal.at_least else '<='} {_shown(goal, goal.bound)}"
        lines.append(f"| {goal.what} | {goal.ours} | {goal.against} | {shown} | {bound} | {verdict} |")
    return lines


def _shown(goal: Goal, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3g}x" if goal.against else figure(value)


def _notes(runs: Runs) -> list[str]:
    """Each note, below it the goals that it is about and that are missed; last those that no note is about."""
    _, texts = notes()
    missed = [goal for goal in (*GOALS, *FAR_GOALS) if goal.missed(runs)]
    lines = ["## Where the time goes, and why goals are missed", ""]
    for heading, text in texts.items():
        lines += [f"### {heading}", "", text, ""]
        lines += _missed([goal for goal in missed if goal.reason == heading], runs)
    unexplained = [goal for goal in missed if goal.reason not in texts]
    if unexplained:
        lines += ["### Not looked into yet", "", *_missed(unexplained, runs)]
    return lines


def _missed(goals: Sequence[Goal], runs: Runs) -> list[str]:
    """A line for each figure, with the goals that it misses."""
    bounds: dict[str, list[str]] = {}
    for goal in goals:
        beside = f" against {goal.against}" if goal.against else ""
        figures = f"{goal.what}, {goal.ours}{beside}: {_shown(goal, goal.reading(runs))}"
        kind = "farther goal" if goal in FAR_GOALS else "goal"
        bounds.setdefault(figures, []).append(f"{kind} {_shown(goal, goal.bound)}")
    lines = [f"- {figures}, {', '.join(missed)}" for figures, missed in bounds.items()]
    return ["Missed:", "", *lines, ""] if lines else []


def _section(run: Run, plots: Path, newest: Run) -> tuple[list[str], list[Path]]:
    """The lines about one run, and its plots, which are written into ``plots``."""
    lines: list[str] = [f"### {in_words(run.variant)}", ""]
    paths = []
    for metric, name, unit in ABOUT[run.bench].plots:
        path = plots / f"{run.bench}-{run.variant}-{metric}.svg"
        path.write_text(_plot(run, metric, name, unit))
        paths.append(path)
        lines.append(f"![{name}]({plots.name}/{path.name})")
    place = run.machine["processor"]
    other = "" if place == newest.machine["processor"] else f" It ran on another machine: {place}."
    return [*lines, "", *_table(run, other), ""], paths


def _table(run: Run, other: str) -> list[str]:
    command = f"`python -m bench {run.bench}`, variant `{run.variant}`.{other}"
    lines = [
        f"Median (lowest to highest) of {run.rounds} rounds, {run.when[:10]}, commit {run.commit}; {command}", "",
    ]  # fmt: skip
    lines += [f"| | {' | '.join(run.contenders)} |", "|---|" + "---|" * len(run.contenders)]
    for metric in run.metrics:
        cells = []
        for each in run.contenders:
            values = [value for value in run.series(each, metric) if value is not None]
            middle = run.median(each, metric)
            cells.append(
                "-" if middle is None else f"{figure(middle)} ({figure(min(values))} to {figure(max(values))})"
            )
        lines.append(f"| {METRICS.get(metric, metric)} | {' | '.join(cells)} |")
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
