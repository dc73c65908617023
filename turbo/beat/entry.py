"""One entry of the schedule: which task, when, with what, and when it ran last.

Made by ``beat.scheduler`` of ``beat_schedule``. An entry does not change when its task is sent: ``next(entry)`` makes
the one that follows.
"""

from __future__ import annotations

from functools import total_ordering
from typing import TYPE_CHECKING, Any, Self

from turbo.beat.schedules import maybe_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from turbo.app.base import Turbo
    from turbo.beat.schedules import schedstate

#: What makes two entries the same; the rest is about past runs.
_EDITABLE = ("task", "args", "kwargs", "options", "schedule")


class BeatLazyFunc:
    """An argument that is computed at each run: ``BeatLazyFunc(datetime.now)``."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._args = args
        self._kwargs = kwargs

    def __call__(self) -> Any:
        """Return the value."""
        return self.delay()

    def delay(self) -> Any:
        """Return the value."""
        return self._func(*self._args, **self._kwargs)


@total_ordering
class ScheduleEntry:
    """An entry.

    ``schedule`` may be seconds, a timedelta or a schedule; ``options`` are those of ``apply_async``. Without
    ``last_run_at`` it counts from now.
    """

    name: str | None = None
    schedule: Any = None
    args: Any = None
    kwargs: Any = None
    options: Any = None
    last_run_at: datetime
    total_run_count = 0

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Iterable[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        relative: bool = False,
        app: Turbo | None = None,
    ) -> None:
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> datetime:
        """Return the time by the schedule's clock."""
        now: datetime = self.schedule.now()
        return now

    def __next__(self) -> Self:
        """Return the entry after a run that begins now."""
        return self.with_run(self.default_now(), self.total_run_count + 1)

    next = __next__

    def with_run(self, last_run_at: datetime, total_run_count: int) -> Self:
        """Return this entry with another last run."""
        return type(self)(**{**dict(self), "last_run_at": last_run_at, "total_run_count": total_run_count})

    def update(self, other: ScheduleEntry) -> None:
        """Take task, schedule, arguments and options over from ``other``."""
        for name in _EDITABLE:
            setattr(self, name, getattr(other, name))

    def is_due(self) -> schedstate:
        """Return whether the next run is due, and the seconds until the next look."""
        state: schedstate = self.schedule.is_due(self.last_run_at)
        return state

    def editable_fields_equal(self, other: ScheduleEntry) -> bool:
        """Return whether both send the same at the same times."""
        return all(getattr(self, name) == getattr(other, name) for name in _EDITABLE)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the next run, with each :class:`BeatLazyFunc` called."""
        args = [value() if isinstance(value, BeatLazyFunc) else value for value in self.args or ()]
        kwargs = {key: value() if isinstance(value, BeatLazyFunc) else value for key, value in self.kwargs.items()}
        return args, kwargs

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __repr__(self) -> str:
        given = [*map(repr, self.args or ()), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        return f"<{type(self).__name__}: {self.name} {self.task}({', '.join(given)}) {self.schedule}>"

    def __lt__(self, other: object) -> bool:
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return self.editable_fields_equal(other) if isinstance(other, ScheduleEntry) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
