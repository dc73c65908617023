"""When a periodic task is due: ``schedule`` by intervals, ``crontab`` by clock.

Made by the program, in ``beat_schedule`` and ``add_periodic_task``, where Celery's names are; asked by
``beat.scheduler``. The arithmetic is in ``policy.intervals`` and ``policy.crontab``. A schedule never sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from turbo import current
from turbo.policy import crontab as cron
from turbo.policy import intervals
from turbo.policy.crontab import ParseException, crontab_parser
from turbo.policy.wall_time import aware, in_zone, is_naive

if TYPE_CHECKING:
    from turbo.app.base import Turbo

__all__ = ["BaseSchedule", "ParseException", "crontab", "crontab_parser", "maybe_schedule", "schedstate", "schedule"]

#: A field of a crontab: a number, an expression, or numbers.
Cronspec = int | str | Iterable[int]
_EVERY = "*"


class schedstate(NamedTuple):
    """Whether a run is due, and the seconds until the schedule is to be asked again."""

    is_due: bool
    next: float


class BaseSchedule:
    """A schedule of the app's: its clock and its zone.

    ``nowfun`` replaces the app's clock.
    """

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Turbo | None = None) -> None:
        self.nowfun = nowfun
        self._app = app

    @property
    def app(self) -> Turbo:
        """The given app, or the current one."""
        found: Turbo = self._app or current.current_app()
        return found

    @app.setter
    def app(self, app: Turbo | None) -> None:
        self._app = app

    def now(self) -> datetime:
        """Return the time by ``nowfun`` or the app."""
        return (self.nowfun or self.app.now)()

    @cached_property
    def tz(self) -> tzinfo:
        """The app's zone."""
        return self.app.timezone

    @cached_property
    def utc_enabled(self) -> bool:
        """The setting ``enable_utc``."""
        return bool(self.app.conf["enable_utc"])

    def to_local(self, dt: datetime) -> datetime:
        """Return a time in the machine's zone with ``enable_utc`` off, else unchanged."""
        return dt if self.utc_enabled else dt.astimezone()

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """Return a naive time in the schedule's zone; it is UTC, or else the zone's own.

        An aware one is unchanged.
        """
        if naive_as_utc or not is_naive(dt):
            return aware(dt, self.tz)
        return in_zone(dt, self.tz)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the run after ``last_run_at`` is due.

        Negative when it is overdue.
        """
        raise NotImplementedError

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether the next run is due, and the seconds until the next look."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return other.nowfun == self.nowfun if isinstance(other, BaseSchedule) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _left(self, due: datetime) -> timedelta:
        return due.astimezone(UTC) - self.maybe_make_aware(self.now()).astimezone(UTC)


class schedule(BaseSchedule):
    """An interval: every ``run_every`` seconds (or timedelta).

    A ``relative`` one is due on the day, the hour or the minute, by the size of the interval.
    """

    relative: bool = False

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Turbo | None = None,
    ) -> None:
        every = run_every if run_every is None or isinstance(run_every, timedelta) else timedelta(seconds=run_every)
        self.run_every: Any = every
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the run after ``last_run_at`` is due.

        Negative when it is overdue.
        """
        last = self.maybe_make_aware(last_run_at)
        return self._left(intervals.due_at(last, self.run_every, relative=self.relative))

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether the next run is due, and the seconds until the next look."""
        last = self.maybe_make_aware(last_run_at)
        left = self.remaining_estimate(last).total_seconds()
        if left > 0:
            return schedstate(is_due=False, next=left)
        if not self.relative:
            return schedstate(is_due=True, next=self.seconds)
        # The next boundary of the clock may be nearer than an interval.
        now = self.maybe_make_aware(self.now()).astimezone(last.tzinfo)
        until_next = self.remaining_estimate(now).total_seconds()
        return schedstate(is_due=True, next=until_next if until_next > 0 else self.seconds)

    @property
    def seconds(self) -> float:
        """The interval in seconds; never negative."""
        return max(float(self.run_every.total_seconds()), 0.0)

    @property
    def human_seconds(self) -> str:
        """The interval in words."""
        return human_seconds(self.seconds)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        return bool(self.run_every == (other.run_every if isinstance(other, schedule) else other))

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


class crontab(BaseSchedule):
    """Times of the clock, as in crontab(5): ``crontab(minute="*/15")``.

    Further fields: ``crontab(hour="8-17", day_of_week="mon-fri")``. All of the five fields must match. Each is a
    number, numbers, or an expression; Sunday is day 0 of the week. Raises ParseException, and ValueError for values out
    of range and for days that no month has.
    """

    def __init__(
        self,
        minute: Cronspec | None = _EVERY,
        hour: Cronspec | None = _EVERY,
        day_of_week: Cronspec | None = _EVERY,
        day_of_month: Cronspec | None = _EVERY,
        month_of_year: Cronspec | None = _EVERY,
        **kwargs: Any,
    ) -> None:
        given = [_EVERY if each is None else each for each in (minute, hour, day_of_week, day_of_month, month_of_year)]
        self._given = given
        self._kwargs = kwargs
        self.minute = cron.expand(given[0], 60)
        self.hour = cron.expand(given[1], 24)
        self.day_of_week = cron.expand(given[2], 7)
        self.day_of_month = cron.expand(given[3], 31, 1)
        self.month_of_year = cron.expand(given[4], 12, 1)
        if not self._fields.possible:
            raise ValueError(f"Invalid crontab: none of the months {given[4]!r} has a day {given[3]!r}")
        super().__init__(**kwargs)

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """Make one of a line of crontab(5), which has five fields.

        They are minute, hour, day of the month, month, day of the week.
        """
        minute, hour, day_of_month, month_of_year, day_of_week = crontab.split()
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    @property
    def _fields(self) -> cron.Fields:
        return cron.Fields(
            frozenset(self.minute),
            frozenset(self.hour),
            frozenset(self.day_of_week),
            frozenset(self.day_of_month),
            frozenset(self.month_of_year),
        )

    def remaining_delta(
        self, last_run_at: datetime, tz: str | tzinfo | None = None
    ) -> tuple[datetime, timedelta, datetime]:
        """Return the last run, the time from it to the next one, and now.

        The time is that on the clock's face; all are in the zone.
        """
        zone = ZoneInfo(tz) if isinstance(tz, str) else tz or self.tz
        last = self.maybe_make_aware(last_run_at).astimezone(zone)
        now = self.maybe_make_aware(self.now()).astimezone(zone)
        return last, self._fields.next_after(last) - last, now

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the run after ``last_run_at`` is due.

        Negative when it is overdue.
        """
        return self._left(self._fields.next_after(self.maybe_make_aware(last_run_at).astimezone(self.tz)))

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether the next run is due, and the seconds until the next look.

        A run that was due more than ``beat_cron_starting_deadline`` seconds ago is left out.
        """
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(is_due=False, next=left)
        until_next = max(self.remaining_estimate(self.now()).total_seconds(), 0.0)
        return schedstate(is_due=left == 0 or not self._is_too_late(), next=until_next)

    def _is_too_late(self) -> bool:
        """Return whether the last run that was due is longer ago than the setting allows."""
        deadline = self.app.conf["beat_cron_starting_deadline"]
        if deadline is None:
            return False
        now = self.maybe_make_aware(self.now())
        # A run at exactly this time is in time.
        since = now.astimezone(UTC) - timedelta(seconds=deadline, microseconds=1)
        return self.remaining_estimate(since).total_seconds() > 0

    def __repr__(self) -> str:
        minute, hour, day_of_week, day_of_month, month_of_year = self._given
        return f"<crontab: {minute} {hour} {day_of_month} {month_of_year} {day_of_week} (m/h/dM/MY/d)>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        return self._fields == other._fields and self.nowfun == other.nowfun

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self._given), self._kwargs

    def __setstate__(self, state: dict[str, Any]) -> None:
        BaseSchedule.__init__(self, **state)
        self._kwargs = dict(state)


def maybe_schedule(s: Any, relative: bool = False, app: Turbo | None = None) -> Any:
    """Return a schedule for seconds or a timedelta.

    A schedule itself gets ``app``, and None stays None. Raises TypeError for anything else.
    """
    if s is None:
        return None
    if isinstance(s, (int, float, timedelta)):
        return schedule(s, relative, app=app)
    if not hasattr(s, "is_due"):
        raise TypeError(f"the schedule {s!r} must be seconds, a timedelta, a crontab or another schedule")
    s.app = app
    return s


def human_seconds(seconds: float) -> str:
    """Return a time in words: ``1.50 minutes``."""
    seconds = round(seconds, 2)
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0)):
        if seconds >= size:
            count = seconds / size
            return f"{count:.2f} {unit}{'s' if count > 1 else ''}"
    return "now"
