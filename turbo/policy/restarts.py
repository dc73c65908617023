"""Computes the pause before another attempt to connect.

Which attempt and a random number in, seconds out. ``amqp.dialer`` and the result stores act on it, in the master and in
clients. It must never read a clock, sleep or draw a random number itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting with a ceiling, in seconds.

    ``cap`` bounds how late a recovered server is noticed: with the default, a connect and a set-up of 2 s
    still leave consumption resuming within 5 s.
    """

    first: float = 0.1
    factor: float = 2.0
    cap: float = 3.0

    def __post_init__(self) -> None:
        """Refuse values that would hammer the server or never retry."""
        if self.first <= 0 or self.factor < 1 or self.cap < self.first:
            raise ValueError(f"not a usable backoff: {self!r}")


#: For the connections to a broker.
BROKER_BACKOFF = Backoff()


def reconnect_delay(failures: int, spread: float, backoff: Backoff = BROKER_BACKOFF) -> float:
    """Seconds to wait after ``failures`` failed attempts in a row.

    0: none failed yet. ``spread`` is a random number in [0, 1): the wait is between half and all of the exponential
    value, so that a fleet which lost one broker does not come back in step. Never negative, never above
    ``backoff.cap``.
    """
    if failures <= 0:
        return 0.0
    # The exponent is bounded first: 2.0 ** 2000 is an OverflowError, and a broker may stay away for days.
    whole = min(backoff.cap, backoff.first * backoff.factor ** min(failures - 1, 64))
    return whole * (0.5 + 0.5 * min(max(spread, 0.0), 1.0))
