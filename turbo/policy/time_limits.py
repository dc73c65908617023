"""Decides which time limits apply to a task, and which time counts towards them.

Precedence: the message's header, then the task's own attribute, then the worker's option. 0 and None in the header mean
"not set here". Times are in seconds unless a name says otherwise. Pure; the time is an argument. It must never end a
task.

Limits count only the time in which the worker ran. When all its processes are stopped and continued (SIGSTOP, a frozen
control group, a suspended machine), its timer fires much too late; the lost time counts for no limit.
"""

from __future__ import annotations

from typing import Final

#: Thirty years: a longer limit is the same as none, and must not overflow a clock.
LONGEST: Final = 1e9
#: Nanoseconds by which a timer may be late while the worker counts as running: a loaded machine wakes late, too.
GRACE_NS: Final = 1_000_000_000
#: Longest timer while limits are armed, in nanoseconds.
TICK_NS: Final = 1_000_000_000
#: Nanoseconds by which a loop with millisecond resolution may fire a timer early.
_EARLY_NS: Final = 2_000_000


def effective(header: object, task: float | None, worker: float | None) -> float | None:
    """Return one limit from its three sources.

    Values that are not positive numbers count as unset.
    """
    for value in (header, task, worker):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return min(float(value), LONGEST)
    return None


def not_run(asked: int, elapsed: int, *, late_before: bool) -> int:
    """Return how many of ``elapsed`` nanoseconds since a timer count for none.

    They count for no limit. The timer was set for ``asked`` nanoseconds. If it is late, the worker was stopped, nobody
    knows since when, so none of the time counts. ``late_before``: the timer before it was late too. Then only the
    lateness is left out, so that limits still act on a machine on which every timer is late.
    """
    if elapsed - asked <= GRACE_NS:
        return 0
    return elapsed - asked if late_before else elapsed


def on_arrival(age: int) -> int:
    """Return the nanoseconds of a start record's ``age`` that count for no limit.

    A start is reported at once, so an old record means that the worker was stopped.
    """
    return age if age > GRACE_NS else 0


class RunningClock:
    """The time during which this process ran, inferred from its timers.

    All times are ``time.monotonic_ns`` values.
    """

    __slots__ = ("_asked", "_late", "_since", "stopped")

    def __init__(self) -> None:
        #: Nanoseconds during which it did not run.
        self.stopped = 0
        #: When the timer was set, None if none is set; and its length.
        self._since: int | None = None
        self._asked = 0
        self._late = False

    def ask(self, now: int, wait: int) -> None:
        """Record a new timer of ``wait`` nanoseconds, which replaces the previous one."""
        self._since, self._asked = now, wait

    def timer(self, due: int, now: int) -> int:
        """Return how many nanoseconds a timer for ``due`` lasts: a tick at most.

        ``due`` leaves out the ``stopped`` time.
        """
        return min(max(0, due - (now - self.stopped)), TICK_NS)

    def look(self, now: int) -> int:
        """Return the nanoseconds lost since the last call, usually 0.

        Adds them to ``stopped``.
        """
        if self._since is None:
            return 0
        elapsed = now - self._since
        lost = not_run(self._asked, elapsed, late_before=self._late)
        if lost or elapsed >= self._asked - _EARLY_NS:
            self._late = lost > 0
            self._since = None
        self.stopped += lost
        return lost
