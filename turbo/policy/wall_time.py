"""Wall-clock times of a zone: missing, repeated and naive ones.

Used by ``policy.intervals`` and the schedules of ``turbo.beat``, in the beat process. Times in, times out: it must
never read a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_DAY = timedelta(days=1)


def is_naive(when: datetime) -> bool:
    """Return whether a time has no zone."""
    return when.utcoffset() is None


def exists(when: datetime) -> bool:
    """Return whether an aware wall-clock time exists: clocks skip some."""
    there_and_back = when.astimezone(UTC).astimezone(when.tzinfo)
    return there_and_back.replace(tzinfo=None) == when.replace(tzinfo=None)


def after_gap(when: datetime) -> datetime:
    """Return a time that a clock skips moved on by the gap; any other time unchanged."""
    if exists(when):
        return when
    before, after = (when - _DAY).utcoffset(), (when + _DAY).utcoffset()
    if before is None or after is None:
        return when
    return when + (after - before)


def in_zone(when: datetime, zone: tzinfo) -> datetime:
    """Give a naive wall-clock time its zone: of two occurrences the first.

    A skipped time moves on by the gap.
    """
    return after_gap(when.replace(tzinfo=zone, fold=0))


def aware(when: datetime, zone: tzinfo) -> datetime:
    """Return a naive time, which is UTC, in ``zone``; an aware one unchanged."""
    return when.replace(tzinfo=UTC).astimezone(zone) if is_naive(when) else when
