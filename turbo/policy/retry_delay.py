"""Computes the delay of an automatic retry.

Used by ``app.tasks.autoretry``. Pure: the random number is an argument. Source of the rule: Celery's documented
``retry_backoff``, ``retry_backoff_max`` and ``retry_jitter``. It must never sleep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def backoff(factor: int, retries: int, longest: int, jitter: Callable[[int], int] | None = None) -> int:
    """Return whole seconds before the next attempt, up to ``longest``.

    ``factor`` is doubled with each retry so far. ``jitter(n)`` returns a random whole number below n; with it, anything
    from 0 to the delay comes out.
    """
    # Beyond 2**64 seconds every limit has been reached, and larger powers only cost time.
    delay = max(0, min(longest, factor * 2 ** min(retries, 64)))
    return delay if jitter is None else jitter(delay + 1)
