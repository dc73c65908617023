"""A year of ticks: turbo's schedules run at the times of Celery's, also where clocks are put forward and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery import schedules as celerys

from turbo import Turbo, schedules

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
#: More looks than any of the schedules needs; a schedule that is always due would never end.
MOST_LOOKS = 20_000

Make = Callable[..., Any]
SCHEDULES: dict[str, Make] = {
    "hours of the night": lambda lib, **more: lib.crontab(minute=0, hour="0-5", **more),
    "half hours of the night": lambda lib, **more: lib.crontab(minute="*/30", hour="1-3", **more),
    "in the gap": lambda lib, **more: lib.crontab(minute=30, hour=2, **more),
    "at its begin": lambda lib, **more: lib.crontab(minute=0, hour=2, **more),
    "before it": lambda lib, **more: lib.crontab(minute=45, hour=1, **more),
    "daily": lambda lib, **more: lib.crontab(minute=0, hour=4, **more),
    "on Sundays": lambda lib, **more: lib.crontab(minute=15, hour=2, day_of_week="sun", **more),
    "monthly": lambda lib, **more: lib.crontab(minute=0, hour=0, day_of_month=1, **more),
    "interval": lambda lib, **more: lib.schedule(7 * 3600, **more),
    "relative days": lambda lib, **more: lib.schedule(timedelta(days=1), relative=True, **more),
    "relative hours": lambda lib, **more: lib.schedule(timedelta(hours=6), relative=True, **more),
}


def year(make: Make, lib: ModuleType, app: Any, zone: str, *, enable_utc: bool) -> list[int]:
    """The Unix times of the runs within the year."""
    app.conf.timezone = zone
    app.conf.enable_utc = enable_utc
    now = BEGIN
    kind = make(lib, app=app, nowfun=lambda: now.astimezone(app.timezone))
    last = kind.now()
    found = []
    for _ in range(MOST_LOOKS):
        is_due, seconds = kind.is_due(last)
        if is_due:
            found.append(round(now.timestamp()))
            last = kind.now()
        now += timedelta(seconds=max(seconds, 0.001))
        if now >= END:
            return found
    raise AssertionError("it is due over and over")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("zone", "enable_utc"),
    [
        ("UTC", True),
        ("Europe/Berlin", True),
        ("Europe/Berlin", False),
        ("America/New_York", True),
        ("America/New_York", False),
        ("Australia/Lord_Howe", True),
    ],
)
def test_a_year_of_runs(zone: str, enable_utc: bool, name: str) -> None:
    make = SCHEDULES[name]
    ours = year(make, schedules, Turbo("ours", set_as_current=False), zone, enable_utc=enable_utc)
    theirs = year(make, celerys, Celery("theirs", set_as_current=False), zone, enable_utc=enable_utc)
    assert ours == theirs
    assert len(ours) >= 11
