"""The arithmetic of the bench: medians, ratios, the ideal, goals, the page and its plots."""

from __future__ import annotations

import struct
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.amqp import content, table
from bench.fairness import Mix, ideal_makespan
from bench.goals import FAR_GOALS, GOALS, Goal
from bench.processes import BenchError
from bench.report import notes, write_report
from bench.results import Run, latest, load
from bench.stage import Reading
from bench.statistics import percentile, ratios
from bench.suite import Line, Part, keys, plan
from bench.summary import part
from bench.svg import Bar, bars, figure
from bench.waits import Waits, busy_share


def a_run(when: str = "2030-01-01T00:00:00+00:00", **rates: list[float]) -> Run:
    readings = [
        Reading(number, who, {"tasks_per_s": value}, 0.1)
        for who, values in rates.items()
        for number, value in enumerate(values, start=1)
    ]
    names = ("processor", "cores", "memory", "system", "python", "rabbitmq", "redis")
    return Run("drain", "none-classic-c2", when, "abc", dict.fromkeys(names, "x"), {"celery": "5"}, {}, readings)


def test_percentile_is_the_nearest_rank() -> None:
    assert [percentile([1, 2, 3, 4], each) for each in (1, 50, 51, 75, 99, 100)] == [1, 2, 3, 3, 4, 4]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_ratios_are_taken_within_a_round_and_skip_those_that_failed() -> None:
    assert ratios([10, None, 30, 40], [5, 5, None, 10]) == [2, 4]


def test_a_run_gives_the_median_of_the_ratios_not_the_ratio_of_the_medians() -> None:
    run = a_run(turbo=[10, 20, 90], celery=[1, 10, 10])

    assert run.ratio("tasks_per_s", "turbo", "celery") == 9
    assert run.median("turbo", "tasks_per_s") == 20
    assert run.ratio("tasks_per_s", "turbo", "nobody") is None


def test_ideal_makespan() -> None:
    assert ideal_makespan([1, 1, 1, 1], 2) == 2
    assert ideal_makespan([3, 1, 1, 1], 2) == 3
    mix = Mix()
    durations = mix.durations()
    assert durations == Mix().durations()
    assert (len(durations), durations.count(1.0)) == (2000, 20)
    assert ideal_makespan(durations, 4) < 1.1 * sum(durations) / 4


def test_the_busy_share_of_slots() -> None:
    back_to_back = [(start, start + 10) for start in range(0, 1000, 10)]
    assert busy_share(back_to_back, 1) == 1
    assert busy_share(back_to_back, 2) == 0.5
    assert busy_share([(start, start + 5) for start, _ in back_to_back], 1) == pytest.approx(0.5, abs=0.01)


def test_waits_tell_their_tasks() -> None:
    waits = Waits(500).nanoseconds()
    assert len(set(waits)) == 500 and waits == Waits(500).nanoseconds()
    assert 0.01e9 <= min(waits) < 0.012e9 and 0.9e9 < max(waits) < 1.01e9
    assert (str(Waits(1)), str(Waits(1, 0.01, 0.01))) == ("10-1000ms", "10ms")


def test_saving_and_loading_a_run(tmp_path: Path) -> None:
    older, newer = a_run(turbo=[1.0]), a_run("2031-01-01T00:00:00+00:00", turbo=[2.0])
    path = newer.save(tmp_path)
    older.save(tmp_path)

    assert load(path) == newer
    assert latest(tmp_path) == {("drain", "none-classic-c2"): newer}


def test_goals_are_compared_with_the_latest_runs() -> None:
    goal = Goal("drain", "drain", "none-classic-c2", "tasks_per_s", "celery", 10)
    run = a_run(turbo=[95.0], celery=[10.0])
    runs = {("drain", "none-classic-c2"): run}

    assert goal.reading(runs) == 9.5
    assert not goal.reached(9.5)
    assert goal.reached(10)
    assert goal.reading({}) is None
    assert Goal("m", "drain", "none-classic-c2", "tasks_per_s", "", 100, at_least=False).reached(95.0)


def test_a_star_in_a_goal_prefers_the_quorum_queue() -> None:
    goal = Goal("memory", "memory", "*", "tasks_per_s", "celery", 0.5, at_least=False)
    classic, quorum = a_run(turbo=[1.0], celery=[2.0]), a_run(turbo=[1.0], celery=[4.0])

    assert goal.reading({("memory", "classic"): classic}) == 0.5
    assert goal.reading({("memory", "classic"): classic, ("memory", "quorum"): quorum}) == 0.25


def test_every_goal_is_one_of_a_part_that_the_suite_measures() -> None:
    known = keys()
    for goal in (*GOALS, *FAR_GOALS):
        variants = {goal.variant.replace("*", kind) for kind in ("quorum", "classic")}
        assert {(goal.bench, variant) for variant in variants} & known, goal


def test_the_note_that_a_goal_names_is_there() -> None:
    headings = notes()[1]
    assert all(text for text in headings.values())
    assert {goal.reason for goal in (*GOALS, *FAR_GOALS)} - {""} == headings.keys()


def test_a_section_says_when_it_ran_on_another_machine(tmp_path: Path) -> None:
    newest = a_run("2031-01-01T00:00:00+00:00", turbo=[1.0], celery=[1.0])
    elsewhere = replace(a_run(turbo=[1.0], celery=[1.0]), variant="none-quorum-c2")
    text = page_of(tmp_path, newest, replace(elsewhere, machine={**elsewhere.machine, "processor": "a slow one"}))

    assert text.count("It ran on another machine: a slow one.") == 1


def test_time_that_is_left_goes_to_parts_with_goals_first() -> None:
    lines = [Line("drain"), Line("latency", most=2), Line("io", rank=1), Line("rings", rank=2)]
    parts = [Part(line, Namespace(), [], {}, cost=10) for line in lines]

    assert plan(parts, 2, 5, 1000) == {0: 5, 1: 2, 2: 5, 3: 1}
    assert plan(parts, 2, 5, 69) == {0: 5, 1: 2, 2: 2, 3: 1}
    assert plan(parts, 3, 5, 25) == {0: 4, 1: 2, 2: 2, 3: 2}


def test_a_line_names_the_further_turbos() -> None:
    words = Line("drain --peers turbo*+adopted,turbo,celery").words
    assert words([])[2] == "turbo+adopted,turbo,celery"
    assert words(["turbo-old"])[2] == "turbo+adopted,turbo-old+adopted,turbo,celery"


def test_parts_are_told_in_words() -> None:
    assert [part(each) for each in (0.5, 0.124, 0.345, 0.8, 1.5)] == [
        "half", "an eighth", "a third", "0.8 times", "1.5 times",
    ]  # fmt: skip


def page_of(tmp_path: Path, *runs: Run) -> str:
    for run in runs:
        run.save(tmp_path / "results")
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    written = write_report(tmp_path / "results", page)
    text = page.read_text()
    plots = [path for path in written if path.suffix == ".svg"]
    assert plots
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in plots)
    assert all(path.name in text for path in plots)
    return text


def test_the_page_shows_goals_tables_and_plots(tmp_path: Path) -> None:
    text = page_of(tmp_path, a_run(turbo=[100.0, 120.0], celery=[10.0, 10.0]))

    assert "| drain, classic queue | turbo | celery | 11x | >= 5.8x | yes |" in text
    assert "| tasks a second | 110 (100 to 120) | 10 (10 to 10) |" in text
    with pytest.raises(BenchError, match="no results"):
        write_report(tmp_path / "nothing", tmp_path / "docs" / "benchmarks.md")


def test_the_page_begins_with_what_was_reached_and_ends_with_what_was_missed(tmp_path: Path) -> None:
    figures = {"turbo": [(90.0, 10.0), (90.0, 10.0)], "celery": [(10.0, 80.0), (10.0, 80.0)]}
    readings = [
        Reading(number, who, {"tasks_per_s": rate, "cpu_us_per_task": cost}, 0.1)
        for who, rounds in figures.items()
        for number, (rate, cost) in enumerate(rounds, start=1)
    ]
    quorum = replace(a_run(), variant="none-quorum-c2", readings=readings)
    text = page_of(tmp_path, quorum, a_run(turbo=[10.0], celery=[10.0]))

    first = text.split("\n")[2]
    assert "9.0 times as many no-op tasks a second" in first and "an eighth of the processor time" in first
    assert "| no-op tasks a second, quorum queue | 90 | 10 | **9x** |" in text.split("## Method")[0]
    last = text.split("## Where the time goes, and why goals are missed")[1].split("\n### A window")[0]
    assert "- drain, classic queue, turbo against celery: 1x, goal 5.8x, farther goal 10x" in last
    assert "- drain, quorum queue, turbo against celery: 9x, farther goal 12x" in last


def test_newer_results_of_the_suite_take_the_place_of_earlier_ones_with_other_settings(tmp_path: Path) -> None:
    before = replace(a_run(turbo=[1.0], celery=[1.0]), variant="none-classic-c2-celery-app")
    newer = a_run("2031-01-01T00:00:00+00:00", turbo=[2.0], celery=[1.0])
    later = replace(a_run("2032-01-01T00:00:00+00:00", turbo=[3.0], celery=[1.0]), variant="none-classic-c8")

    assert "`-c 2`, a Celery app\n" in page_of(tmp_path / "before", before).split("## Goals")[0]
    text = page_of(tmp_path / "after", before, newer, later).split("## Goals")[0]
    assert "`-c 2`, a Celery app\n" not in text
    assert "### No results, classic queue, `-c 2`\n" in text and "`-c 8`\n" in text


def test_a_plot_escapes_its_text() -> None:
    plot = bars("<&>", "s", [Bar('a"b<', 2, (1, 3), True), Bar("none", 0, (), False)])
    assert ElementTree.fromstring(plot) is not None


def test_figures_have_three_digits() -> None:
    assert [figure(value) for value in (0.12345, 3.456, 45.67, 12345.6)] == ["0.123", "3.46", "45.7", "12,346"]


def test_frames_and_tables() -> None:
    assert table({"a": "x", "n": 1, "t": True}) == (
        b"\x00\x00\x00\x13" + b"\x01aS\x00\x00\x00\x01x" + b"\x01nI\x00\x00\x00\x01" + b"\x01tt\x01"
    )
    frames = content(b"head", bytes(131072))
    sizes = []
    while frames:
        (size,) = struct.unpack_from(">I", frames, 3)
        sizes.append(size)
        assert frames[7 + size] == 0xCE
        frames = frames[size + 8 :]
    assert sizes == [4, 131064, 8]
