"""Decides whether children may start a task without waking the master.

``master.outcome.start_looks`` asks. While tasks are short, the master gets the start and the end of a task by one
signal: half of its wake-ups at a window of one message a child. An early acknowledgement then leaves with the end, so
tasks must be so short that the broker's next message is not delayed by much.
"""

from __future__ import annotations

from typing import Final

#: Longest estimated run time, in nanoseconds, up to which starts become quiet. A no-op takes 15 to 60 us in a child.
QUIET_NS: Final = 200_000
#: The estimate, in nanoseconds, above which they are signalled again.
LOUD_NS: Final = 400_000


def quiet(estimate_ns: int, *, now: bool) -> bool:
    """Return whether starts need no signal.

    ``now`` says whether they need none so far. ``estimate_ns`` is the moving estimate of a task's run time
    (``policy.look_ahead``), 0 without one.
    """
    return 0 < estimate_ns <= (LOUD_NS if now else QUIET_NS)
