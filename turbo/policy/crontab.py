"""Crontab expressions: parses five fields, computes the next match.

Called by ``turbo.beat.schedules.crontab``. Text and times in, numbers and times out: it must never read a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime
from typing import Final

#: Days of each month, February in leap years.
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART: Final = re.compile(r"(?:(?P<star>\*)|(?P<low>\w+?)(?:-(?P<high>\w+))?)(?:/(?P<step>\w*))?")


class ParseException(Exception):
    """A crontab expression cannot be parsed."""


class crontab_parser:
    """Parses one field: ``crontab_parser(60).parse('*/15')`` is ``{0, 15, 30, 45}``.

    ``max_`` is how many values the field has, ``min_`` the lowest.
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """Return the values that ``spec`` names.

        Raises ParseException, and ValueError for a value out of range.
        """
        return {value for part in spec.split(",") for value in self._part(part.strip())}

    def _part(self, part: str) -> list[int]:
        """Return the values of one of the parts between commas."""
        if not part:
            raise ParseException("empty part")
        if part.startswith("-"):
            raise ParseException("negative numbers not supported")
        found = _PART.fullmatch(part)
        if found is None:
            raise ParseException(f"not a crontab expression: {part!r}")
        if found["star"]:
            values = list(range(self.min_, self.min_ + self.max_))
        else:
            values = self._range(self._number(found["low"]), found["high"])
        return values if found["step"] is None else values[:: _step(found["step"])]

    def _range(self, low: int, high_text: str | None) -> list[int]:
        """Return the values from ``low`` on.

        A range whose end is below its start goes on at the lowest value.
        """
        high = low if high_text is None else self._number(high_text)
        if high < low:
            return [*range(low, self.min_ + self.max_), *range(self.min_, high + 1)]
        return list(range(low, high + 1))

    def _number(self, text: str) -> int:
        """Return a number, or that of the name of a month or weekday.

        Raises ValueError if it is out of range.
        """
        short = text[:3].lower()
        if text.isdecimal():
            number = int(text)
        elif short in _MONTHS:
            number = _MONTHS.index(short) + 1
        elif short in _WEEKDAYS:
            number = _WEEKDAYS.index(short)
        else:
            raise ValueError(f"{text!r} is neither a number nor the name of a month or weekday")
        highest = self.min_ + self.max_ - 1
        if not self.min_ <= number <= highest:
            raise ValueError(f"{number} is not between {self.min_} and {highest}")
        return number


def _step(text: str) -> int:
    if not text:
        raise ParseException("empty filter")
    step = int(text)
    if step < 1:
        raise ParseException(f"the step must be at least 1, not {step}")
    return step


def expand(spec: object, size: int, lowest: int = 0) -> set[int]:
    """Return the values of a field given as a number, an expression or numbers.

    Raises ParseException, TypeError for another type, and ValueError for values out of range or none at all.
    """
    if isinstance(spec, int):
        values = {spec}
    elif isinstance(spec, str):
        values = crontab_parser(size, lowest).parse(spec)
    elif isinstance(spec, Iterable):
        values = set(spec)
    else:
        raise TypeError(f"a field of a crontab must be a number, text or numbers, not {type(spec)!r}")
    if not values:
        raise ValueError("a field of a crontab must name at least one value")
    for value in values:
        if not lowest <= value < lowest + size:
            raise ValueError(
                f"Invalid crontab pattern.  Valid range is {lowest}-{lowest + size - 1}. '{value}' was found."
            )
    return values


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of the five fields; Sunday is day 0 of the week."""

    minute: frozenset[int]
    hour: frozenset[int]
    day_of_week: frozenset[int]
    day_of_month: frozenset[int]
    month_of_year: frozenset[int]

    @property
    def possible(self) -> bool:
        """Whether any month has one of the days."""
        return any(day <= _DAYS[month - 1] for month in self.month_of_year for day in self.day_of_month)

    def next_after(self, last: datetime) -> datetime:
        """Return the next match after the minute of ``last``, in the zone.

        A time that the clock skips is returned as it is. Of two occurrences of a time the first is returned, unless
        ``last`` is not before it: an hour that occurs twice has one run. Raises ValueError when no date matches.
        """
        due = self._next_wall_time(last)
        if due.astimezone(UTC) <= last.astimezone(UTC):
            due = due.replace(fold=1)
        return due

    def _next_wall_time(self, last: datetime) -> datetime:
        start = last.replace(second=0, microsecond=0, fold=0)
        if self._has(last.date()):
            if last.hour in self.hour and last.minute < max(self.minute):
                return start.replace(minute=min(minute for minute in self.minute if minute > last.minute))
            if last.hour < max(self.hour):
                hour = min(hour for hour in self.hour if hour > last.hour)
                return start.replace(hour=hour, minute=min(self.minute))
        day = next(self._dates_after(last.date()), None)
        if day is None:
            raise ValueError("no date matches the crontab")
        return start.replace(day.year, day.month, day.day, min(self.hour), min(self.minute))

    def _has(self, day: date) -> bool:
        return (
            day.month in self.month_of_year
            and day.day in self.day_of_month
            and day.isoweekday() % 7 in self.day_of_week
        )

    def _dates_after(self, last: date) -> Iterator[date]:
        for year in range(last.year, MAXYEAR + 1):
            for month in sorted(self.month_of_year):
                if (year, month) < (last.year, last.month):
                    continue
                for day in sorted(self.day_of_month):
                    if day > _DAYS[month - 1] or (month == 2 and day == 29 and not _is_leap(year)):
                        continue
                    found = date(year, month, day)
                    if found > last and self._has(found):
                        yield found


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
