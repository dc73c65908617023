"""Which time limits apply to a task, and which time counts for them.

Precedence: the message's header, then the task's own attribute, then the worker's option. 0 and None in the
header mean "not set here". Times are in seconds where a name does not say otherwise. Pure; the time is an argument.

Limits count the time during which the worker ran. A worker whose processes are all stopped and continued (SIGSTOP, a
frozen control group, a suspended machine) finds its own timer much too late; that time counts for no limit.
"""

from __future__ import annotations

from typing import Final

#: Thirty years: a longer limit is the same as none, and must not overflow a clock.
LONGEST: Final = 1e9
#: How late a timer may be while the worker still counts as running, in nanoseconds: a loaded machine wakes late, too.
GRACE_NS: Final = 1_000_000_000
#: Longest wait for which a timer is asked while limits are armed, in nanoseconds.
TICK_NS: Final = 1_000_000_000
#: By how much a loop that counts in milliseconds may call a timer too early, in nanoseconds.
_EARLY_NS: Final = 2_000_000


def effective(header: object, task: float | None, worker: float | None) -> float | None:
    """One limit from its three sources; values that are not positive numbers count as unset."""
    for value in (header, task, worker):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return min(float(value), LONGEST)
    return None


def not_run(asked: int, elapsed: int, *, late_before: bool) -> int:
    """Of the ``elapsed`` nanoseconds since a timer was asked for, those that count for no limit.

    The timer was asked for after ``asked`` nanoseconds. When in that time a stop began cannot be known, so none of it
    counts: a task may have run for a part of it only. ``late_before`` says that the timer before this one was late,
    too: then the wait counts, so that limits still act on a machine on which every timer is late.
    """
    if elapsed - asked <= GRACE_NS:
        return 0
    return elapsed - asked if late_before else elapsed


def on_arrival(age: int) -> int:
    """Of the ``age`` in nanoseconds of a start that the master hears of now, those that count for no limit.

    A start is told at once, so an old one waited while nobody ran.
    """
    return age if age > GRACE_NS else 0


class RunningClock:
    """The time during which this process ran, as its timers show it. Times are ``time.monotonic_ns`` values."""

    __slots__ = ("_asked", "_late", "_since", "stopped")

    def __init__(self) -> None:
        #: Nanoseconds so far during which it did not run.
        self.stopped = 0
        #: When the timer was asked for, None if there is none; after how long it shall come.
        self._since: int | None = None
        self._asked = 0
        self._late = False

    def ask(self, now: int, wait: int) -> None:
        """A timer was set that shall come after ``wait`` nanoseconds; it replaces the one before."""
        self._since, self._asked = now, wait

    def look(self, now: int) -> int:
        """Return the nanoseconds that were lost since the last look, 0 as a rule; counts them in ``stopped``."""
        if self._since is None:
            return 0
        elapsed = now - self._since
        lost = not_run(self._asked, elapsed, late_before=self._late)
        if lost or elapsed >= self._asked - _EARLY_NS:
            self._late = lost > 0
            self._since = None
        self.stopped += lost
        return lost
