"""The time at which an interval schedule is due.

Called by ``turbo.beat.schedules`` with the last run. Times in, times out: it must never read a clock.

An interval counts real seconds. A *relative* one is aligned to the clock: with an interval of at least a day it is due
at midnight, of an hour on the hour, of a minute on the minute, in the zone of the last run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from turbo.policy.wall_time import after_gap

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
#: Interval -> what is set to zero when a time is rounded down.
_ZEROED: Final[tuple[tuple[timedelta, dict[str, Any]], ...]] = (
    (_DAY, {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}),
    (_HOUR, {"minute": 0, "second": 0, "microsecond": 0}),
    (_MINUTE, {"second": 0, "microsecond": 0}),
)


def due_at(last: datetime, every: timedelta, *, relative: bool) -> datetime:
    """Return when a run is due, in UTC, for an aware ``last`` run."""
    last_utc = last.astimezone(UTC)
    if not relative:
        return last_utc + every
    if every >= _DAY:
        # By the calendar: a day of 23 or 25 hours is one day.
        end = last + every
        return min((c for c in _occurrences(end, every) if c > last_utc), default=end.astimezone(UTC))
    return _rounded_end(last, every, last_utc + every)


def _rounded_end(last: datetime, every: timedelta, end_utc: datetime) -> datetime:
    """Return the last rounded boundary after ``last``, at most ``end_utc``."""
    last_utc = last.astimezone(UTC)
    end = end_utc.astimezone(last.tzinfo)
    found = _occurrences(end, every)
    due = _latest(found, end_utc)
    if due > last_utc or every < _MINUTE:
        return due
    # Clocks were put back by part of the interval, and the boundary is before the last run. The next boundary and the
    # one by the calendar are candidates too.
    found += _occurrences(end + (_HOUR if every >= _HOUR else _MINUTE), every)
    found += _occurrences(last + every, every)
    later = [each for each in found if each > last_utc]
    return _latest(later, end_utc) if later else end_utc


def _latest(found: list[datetime], end: datetime) -> datetime:
    """Return the latest time that is not after ``end``; the first one if all are."""
    return max((each for each in found if each <= end), default=min(found))


def _occurrences(when: datetime, every: timedelta) -> list[datetime]:
    """Return ``when`` rounded down, in UTC: both, if it occurs twice."""
    rounded = round_down(when, every).replace(microsecond=0)
    return [max(each, after_gap(each)).astimezone(UTC) for each in (rounded.replace(fold=0), rounded.replace(fold=1))]


def round_down(when: datetime, every: timedelta) -> datetime:
    """Return ``when`` rounded down to the day, hour or minute.

    The size of ``every`` decides; below a minute nothing changes.
    """
    for unit, zeroed in _ZEROED:
        if every >= unit:
            return when.replace(**zeroed)
    return when
