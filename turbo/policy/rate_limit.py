"""Reads rate limits, and decides when a task with a rate limit may start.

Pure; the time is an argument. ``master.delivery.rate_limits`` keeps one bucket per limited task. Syntax and buckets are
those of Celery and kombu: a bucket holds one token at most, so "100/m" means at least 0.6 seconds between two starts,
and no burst follows an idle time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds of the units that follow the slash.
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
#: The most tokens of a bucket.
_CAPACITY: Final = 1.0


def per_second(limit: object) -> float:
    """Return a limit in starts per second; 0 for none.

    ``limit`` is None, a number (per second) or a text such as "10", "10/s", "0.5/m" or "100/h". Raises ValueError.
    """
    if not limit:
        return 0.0
    if isinstance(limit, str):
        number, _, unit = limit.partition("/")
        rate = float(number)
        seconds = _UNITS.get(unit or "s")
        if seconds is None:
            raise ValueError(f"unknown unit {unit!r}: the units are s, m and h")
        rate /= seconds
    elif isinstance(limit, (int, float)):
        rate = float(limit)
    else:
        raise ValueError(f"a rate limit is a number or a text, not {type(limit).__name__}")
    if not 0 <= rate < math.inf:
        raise ValueError(f"{limit!r} is not a possible rate")
    return rate


def faults(limits: Iterable[tuple[str, object]]) -> list[str]:
    """Return one phrase for each rate limit that cannot be read.

    The limits come as pairs of task name and limit.
    """
    found = []
    for name, limit in limits:
        try:
            per_second(limit)
        except ValueError as error:
            found.append(f"rate_limit={limit!r} of task {name}: {error}")
    return found


class TokenBucket:
    """A bucket of one token, which refills at a constant rate.

    Times are in seconds of any steady clock.
    """

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: float, now: float) -> None:
        """Make a full bucket; ``rate``: tokens per second, more than 0."""
        self.rate = rate
        self._tokens = _CAPACITY
        self._at = now

    def is_ready(self, now: float) -> bool:
        """Return whether a token is there."""
        self._refill(now)
        return self._tokens >= 1.0

    def take(self, now: float) -> bool:
        """Take a token if one is there; return whether it was."""
        if not self.is_ready(now):
            return False
        self._tokens -= 1.0
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until a token is there."""
        self._refill(now)
        return max(0.0, 1.0 - self._tokens) / self.rate

    def change(self, rate: float, now: float) -> None:
        """Refill at another rate from now on."""
        self._refill(now)
        self.rate = rate

    def _refill(self, now: float) -> None:
        if self._tokens < _CAPACITY:
            self._tokens = min(_CAPACITY, self._tokens + self.rate * (now - self._at))
        self._at = now
