"""Gives entries stored last runs, and adapts them when the clock is put back.

Used by ``beat.scheduler``. A last run may lie in the future, since the clock was put back, or since it was stored by a
machine whose clock is ahead. An interval then goes on by real seconds. A crontab pauses until the clock has passed its
last run, so that none is repeated; one that would pause for more than an hour goes by the new time. Pure.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from turbo.beat.schedules import human_seconds, schedule
from turbo.policy.wall_time import aware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.beat.entry import ScheduleEntry
    from turbo.beat.runs import Run, Runs

logger = logging.getLogger("celery.beat")

#: How far in the future a last run may be that is kept.
_SKEW: Final = timedelta(hours=1)


def taken_over(
    entries: Mapping[str, ScheduleEntry], own: Runs, stored: Runs, now: datetime
) -> dict[str, ScheduleEntry]:
    """Return the entries that get a stored last run; others have run later themselves."""
    changed = {}
    for name, mine in own.items():
        found = stored.get(name)
        if found is None or (mine.total_run_count and mine.last_run_at >= found.last_run_at):
            continue
        if found.last_run_at > now + _SKEW:
            logger.warning(
                "beat: the last run of %s was stored as %s, which is in the future; its runs are counted from now",
                name,
                found.last_run_at,
            )
            continue
        changed[name] = _with_stored(entries[name], found, now)
    return changed


def _with_stored(entry: ScheduleEntry, found: Run, now: datetime) -> ScheduleEntry:
    last = min(found.last_run_at, now) if _counts_real_seconds(entry) else found.last_run_at
    return entry.with_run(last, found.total_run_count)


def after_step_back(
    entries: Mapping[str, ScheduleEntry], seconds: float, now: datetime, zone: tzinfo
) -> dict[str, ScheduleEntry]:
    """Return the entries that change when the clock has been put back to ``now``."""
    logger.warning(
        "beat: The clock was put back by %s: intervals go on by real time, and a crontab pauses for at most an hour",
        human_seconds(seconds),
    )
    changed = {}
    for name, entry in entries.items():
        last = aware(entry.last_run_at, zone).astimezone(UTC)
        if _counts_real_seconds(entry):
            changed[name] = entry.with_run(last - timedelta(seconds=seconds), entry.total_run_count)
        elif last > now + _SKEW:
            logger.warning("beat: the last run of %s is now in the future; its runs are counted from now", name)
            changed[name] = entry.with_run(now, entry.total_run_count)
    return changed


def _counts_real_seconds(entry: ScheduleEntry) -> bool:
    return isinstance(entry.schedule, schedule) and not entry.schedule.relative
