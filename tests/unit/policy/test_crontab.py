"""Crontab expressions and the next time that they match; Celery's answers are in tests/compat."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from turbo.policy.crontab import Fields, ParseException, crontab_parser, expand

BERLIN = ZoneInfo("Europe/Berlin")
ALL = {"minute": 60, "hour": 24, "day_of_week": 7, "day_of_month": 31, "month_of_year": 12}


def fields(**spec: object) -> Fields:
    """All fields, those that are not given as stars."""
    lowest = {"day_of_month": 1, "month_of_year": 1}
    return Fields(**{n: frozenset(expand(spec.get(n, "*"), size, lowest.get(n, 0))) for n, size in ALL.items()})


@pytest.mark.parametrize(
    ("text", "size", "lowest", "values"),
    [
        ("*/15", 60, 0, {0, 15, 30, 45}),
        ("1,13,30-32", 60, 0, {1, 13, 30, 31, 32}),
        ("50-5/5", 60, 0, {50, 55, 0, 5}),
        ("mon-fri", 7, 0, {1, 2, 3, 4, 5}),
        ("sat-mon", 7, 0, {6, 0, 1}),
        ("jan,Dec", 12, 1, {1, 12}),
        ("*/3", 31, 1, {1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31}),
        ("1, 2", 60, 0, {1, 2}),
        ("*/1", 7, 0, {0, 1, 2, 3, 4, 5, 6}),
        ("January,december", 12, 1, {1, 12}),
        ("Wednesday", 7, 0, {3}),
    ],
)
def test_expressions(text: str, size: int, lowest: int, values: set[int]) -> None:
    assert crontab_parser(size, lowest).parse(text) == values


@pytest.mark.parametrize("text", ["", "1,,2", "*/", "-5", "*/0", "1/2/3", "1 2"])
def test_no_expression(text: str) -> None:
    with pytest.raises(ParseException):
        crontab_parser(60).parse(text)


@pytest.mark.parametrize("spec", [60, -1, "60", "abc", [1, 99], set()])
def test_out_of_range(spec: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        expand(spec, 60)


@pytest.mark.parametrize("text", ["0", "13", "0-3", "11-13"])
def test_the_parser_itself_refuses_what_the_field_has_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not between 1 and 12$"):
        crontab_parser(12, 1).parse(text)


def test_the_error_names_the_range_and_the_value() -> None:
    with pytest.raises(ValueError, match=r"Valid range is 1-31\. '32' was found\."):
        expand(32, 31, 1)


def test_a_field_of_another_type() -> None:
    with pytest.raises(TypeError):
        expand(1.5, 60)


def test_days_that_no_month_has() -> None:
    assert not fields(day_of_month=30, month_of_year=2).possible
    assert fields(day_of_month=29, month_of_year=2).possible
    for month, days in enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), 1):
        assert fields(day_of_month=days, month_of_year=month).possible
        assert days == 31 or not fields(day_of_month=days + 1, month_of_year=month).possible
    assert crontab_parser().parse("*") == set(range(60))


@pytest.mark.parametrize(
    ("spec", "last", "due"),
    [
        ({"minute": "*/15"}, (2025, 1, 1, 10, 15, 40), (2025, 1, 1, 10, 30)),
        ({"minute": 5, "hour": "8-9"}, (2025, 1, 1, 8, 5), (2025, 1, 1, 9, 5)),
        ({"minute": 5, "hour": 8}, (2025, 1, 1, 8, 5), (2025, 1, 2, 8, 5)),
        ({"minute": 0, "hour": 0, "day_of_week": "sun"}, (2025, 1, 5, 0, 0), (2025, 1, 12, 0, 0)),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, (2025, 4, 1, 0, 0), (2025, 5, 31, 0, 0)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, (2025, 3, 1), (2028, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, (1997, 1, 1), (2000, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, (2097, 1, 1), (2104, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 30}, (2025, 1, 31), (2025, 3, 30)),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, (2025, 5, 31), (2025, 7, 31)),
        ({"minute": 0, "hour": 0, "day_of_month": 1, "month_of_year": 1}, (9998, 6, 1), (9999, 1, 1)),
        ({"minute": 0, "hour": 0, "day_of_month": 13, "day_of_week": 5}, (2025, 1, 1), (2025, 6, 13)),
    ],
)
def test_the_next_time(spec: dict[str, object], last: tuple[int, ...], due: tuple[int, ...]) -> None:
    assert fields(**spec).next_after(datetime(*last, tzinfo=UTC)) == datetime(*due, tzinfo=UTC)


def test_no_date_matches() -> None:
    with pytest.raises(ValueError, match="no date"):
        fields(day_of_month=29, month_of_year=2).next_after(datetime(9997, 3, 1, tzinfo=UTC))


def test_a_time_that_occurs_twice_runs_once() -> None:
    nightly = fields(minute=30, hour=2)
    first = nightly.next_after(datetime(2025, 10, 25, 12, tzinfo=BERLIN))
    assert first.astimezone(UTC) == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    assert nightly.next_after(first) == datetime(2025, 10, 27, 2, 30, tzinfo=BERLIN)


def test_the_next_time_is_after_the_last_run_in_the_second_of_two_hours() -> None:
    last = datetime(2025, 10, 26, 1, 15, tzinfo=UTC).astimezone(BERLIN)
    assert fields(minute="*/30").next_after(last).astimezone(UTC) == datetime(2025, 10, 26, 1, 30, tzinfo=UTC)


def test_a_time_that_the_clock_skips_comes_after_the_gap() -> None:
    due = fields(minute=30, hour=2).next_after(datetime(2025, 3, 29, 12, tzinfo=BERLIN))
    assert due.astimezone(UTC) == datetime(2025, 3, 30, 1, 30, tzinfo=UTC)
