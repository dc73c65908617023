"""Parses the times in messages: ``eta`` and ``expires``.

Before it: header values. After it: ``message``. Pure; it must never read a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo


def parse_eta(value: object, naive_zone: tzinfo = UTC) -> datetime:
    """Return ``value``, ISO 8601 text or a datetime, as an aware datetime.

    It is in UTC. A value without an offset is in ``naive_zone``, which is UTC except for protocol 1 with ``utc`` false.
    Raises ``ValueError`` for other types and for times outside the years 1 to 9999.
    """
    if isinstance(value, str):
        when = datetime.fromisoformat(value)
    elif isinstance(value, datetime):
        when = value
    else:
        raise ValueError(f"a time must be ISO 8601 text, not {type(value).__name__}")
    if when.tzinfo is UTC:
        return when
    if when.tzinfo is None:
        when = when.replace(tzinfo=naive_zone)
    try:
        return when.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value!r} lies outside the years 1 to 9999") from error
