"""Points in time as messages carry them: ``eta`` and ``expires``.

Before it: header values. After it: ``message``. Pure; the clock is nobody's business here.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo


def parse_eta(value: object, naive_zone: tzinfo = UTC) -> datetime:
    """Return the aware UTC datetime that ``value`` stands for: ISO 8601 text, or a datetime.

    A value without an offset is read as local to ``naive_zone``: UTC, except for protocol 1 with ``utc`` false.
    Raises ``ValueError`` for anything else, and for what falls outside the years 1 to 9999.
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
