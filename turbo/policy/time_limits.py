"""Which time limits apply to a task.

Precedence: the message's header, then the task's own attribute, then the worker's option. 0 and None in the
header mean "not set here". Times are in seconds.
"""

from __future__ import annotations

from typing import Final

#: Thirty years: a longer limit is the same as none, and must not overflow a clock.
LONGEST: Final = 1e9


def effective(header: object, task: float | None, worker: float | None) -> float | None:
    """One limit from its three sources; values that are not positive numbers count as unset."""
    for value in (header, task, worker):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return min(float(value), LONGEST)
    return None
