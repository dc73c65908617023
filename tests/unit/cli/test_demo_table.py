"""The demo's table: counted from records and compared with what was expected."""

from __future__ import annotations

from collections import Counter

from turbo.cli.demo_table import WIDTH, Findings, Line, Progress, TaskCounts, progress, quick_line, table
from turbo.cli.demo_tasks import RECORD


def fed(*runs: tuple[int, int]) -> TaskCounts:
    task_counts = TaskCounts()
    task_counts.feed(b"".join(RECORD.pack(pid, number) for pid, number in runs))
    return task_counts


def test_records_may_come_in_pieces() -> None:
    task_counts = TaskCounts()
    data = RECORD.pack(7, 1) + RECORD.pack(8, 2)
    for position in range(len(data)):
        task_counts.feed(data[position : position + 1])
    assert (task_counts.done, task_counts.repeated) == (2, 0)
    assert task_counts.by_child == Counter({7: 1, 8: 1})


def test_all_once_is_good() -> None:
    line = quick_line(fed((7, 0), (8, 1)), 2)
    assert line.good
    assert line.happened == "2 ran, each once"


def test_an_unfinished_or_repeated_task_is_not_good() -> None:
    assert not quick_line(fed((7, 0)), 2).good
    line = quick_line(fed((7, 0), (8, 0)), 2)
    assert not line.good
    assert line.happened == "1 ran, 1 have not run yet, 1 repeated"


def test_only_a_time_without_any_progress_ends_it() -> None:
    progressed = Progress(20.0)
    assert not progressed.stalled((0, 0), 1_000.0)
    assert not progressed.stalled((1, 0), 1_019.0)
    assert not progressed.stalled((1, 1), 1_038.9)
    assert not progressed.stalled((1, 1), 1_058.8)
    assert progressed.stalled((1, 1), 1_058.9)


def test_the_live_line() -> None:
    assert progress(fed((7, 0), (7, 1), (8, 2)), 20_000, 1234.5, 2).split() == [
        "3", "of", "20,000", "1,234/s", "by", "child", "7:2", "8:1",
    ]  # fmt: skip


def test_one_bad_line_spoils_the_whole() -> None:
    good, bad = Line("a", "b", "c", True), Line("d", "e", "f", False)
    assert Findings([good]).good
    assert not Findings([good, bad]).good
    assert not Findings().good


def test_the_closing_table_says_so() -> None:
    text = table(Findings([Line("2 tasks", "run", "ran", True)], 2.0, 2, Counter({7: 1, 8: 1})))
    assert "ok  2 tasks" in text
    assert "2 tasks in 2.0 s (1/s" in text
    assert "7 ran 1, 8 ran 1" in text
    assert "\nevery task is accounted for" in text
    assert "turbo worker -c 2" in text
    assert "\nNOT every task" in table(Findings([Line("x", "y", "z", False)]))


def test_it_fits_a_terminal_of_80_columns() -> None:
    found = Findings(
        [
            Line("19,995 quick tasks", "each to run once", "19,000 ran, 995 have not run yet, 20,000 repeated", False),
            Line("one past its hard limit of 2 s", "to be killed", repr(ValueError("why " * 60)), False),
            Line("one that grows past 160MB", "to end", "ended; its child 4194304 was replaced", True),
        ],
        151.5,
        20_000,
        Counter(dict.fromkeys(range(4194300, 4194307), 12345)),
    )
    lines = table(found).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
    assert WIDTH == 80
    assert "expected: to be killed" in " ".join(" ".join(lines).split())
    task_counts = fed(*((4_194_300 + number % 4, number) for number in range(20_000)))
    assert len(progress(task_counts, 19_995, 123_456.0, 2)) < WIDTH
