"""``turbo.schedules``: when periodic tasks are due, by Celery's names.

See ``beat.schedules``.
"""

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
