"""``turbo.schedules``: when periodic tasks are due, by the names of Celery's module. See ``beat.schedules``."""

from __future__ import annotations

from turbo.beat.schedules import (
    BaseSchedule,
    ParseException,
    crontab,
    crontab_parser,
    maybe_schedule,
    schedstate,
    schedule,
)
from turbo.beat.solar import solar

__all__ = [
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
