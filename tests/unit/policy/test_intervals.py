"""When intervals are due; Celery's answers are in tests/compat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from turbo.policy.intervals import due_at, round_down

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)


def test_an_interval_counts_real_seconds() -> None:
    last = datetime(2025, 3, 29, 12, tzinfo=BERLIN)
    assert due_at(last, DAY, relative=False) == last.astimezone(UTC) + DAY


@pytest.mark.parametrize(
    ("every", "due"),
    [
        (DAY, datetime(2025, 1, 2, tzinfo=UTC)),
        (timedelta(hours=2), datetime(2025, 1, 1, 12, tzinfo=UTC)),
        (timedelta(minutes=3), datetime(2025, 1, 1, 10, 36, tzinfo=UTC)),
        (timedelta(seconds=10), datetime(2025, 1, 1, 10, 34, 5, tzinfo=UTC)),
    ],
)
def test_a_relative_one_is_due_on_the_clock(every: timedelta, due: datetime) -> None:
    assert due_at(datetime(2025, 1, 1, 10, 33, 55, 500_000, tzinfo=UTC), every, relative=True) == due


def test_a_relative_day_is_one_of_the_calendar() -> None:
    """The day on which clocks are put forward has 23 hours."""
    found = due_at(datetime(2025, 3, 30, 0, 30, tzinfo=BERLIN), DAY, relative=True)
    assert found.astimezone(BERLIN) == datetime(2025, 3, 31, tzinfo=BERLIN)


def test_it_is_never_due_before_the_last_run_when_clocks_are_put_back() -> None:
    """On Lord Howe Island by half an hour: the hour of the rounded time has begun before the last run."""
    zone = ZoneInfo("Australia/Lord_Howe")
    last = datetime(2025, 4, 5, 13, 50, tzinfo=UTC)
    for minutes in range(0, 180, 5):
        start = last + timedelta(minutes=minutes)
        assert due_at(start.astimezone(zone), timedelta(hours=1), relative=True) > start


def test_the_hour_that_is_begun_again_ends_when_the_next_begins() -> None:
    """On Lord Howe Island the hour from 01:00 has ninety minutes on that day."""
    zone = ZoneInfo("Australia/Lord_Howe")
    for minutes in (0, 15, 29):
        last = datetime(2025, 4, 5, 14, minutes, tzinfo=UTC).astimezone(zone)
        assert due_at(last, timedelta(hours=1), relative=True) == datetime(2025, 4, 5, 15, 30, tzinfo=UTC)


def test_both_of_two_equal_hours_have_a_run() -> None:
    due, last = [], datetime(2025, 10, 25, 23, tzinfo=UTC)
    for _ in range(4):
        last = due_at(last.astimezone(BERLIN), timedelta(hours=1), relative=True)
        due.append(last)
    assert due == [datetime(2025, 10, 26, hour, tzinfo=UTC) for hour in range(4)]
    two_hours = due_at(datetime(2025, 10, 26, 1, tzinfo=BERLIN), timedelta(hours=2), relative=True)
    assert two_hours == datetime(2025, 10, 26, 1, tzinfo=UTC)


def test_a_relative_one_below_a_second_is_due_at_once() -> None:
    last = datetime(2025, 1, 1, 10, 33, 55, 500_000, tzinfo=UTC)
    assert due_at(last, timedelta(seconds=0.3), relative=True) <= last
    assert due_at(last, timedelta(seconds=0.3), relative=True) == last.replace(microsecond=0)


def test_times_are_rounded_down_to_the_unit() -> None:
    when = datetime(2025, 1, 1, 10, 33, 55, 500_000, tzinfo=UTC)
    found = [round_down(when, every) for every in (DAY, timedelta(hours=1), timedelta(minutes=1))]
    assert found == [
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2025, 1, 1, 10, tzinfo=UTC),
        datetime(2025, 1, 1, 10, 33, tzinfo=UTC),
    ]


def test_rounding_keeps_which_of_two_times_it_is() -> None:
    second = datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=1)
    assert round_down(second, timedelta(hours=1)).fold == 1
    assert round_down(second, timedelta(seconds=1)) == second
