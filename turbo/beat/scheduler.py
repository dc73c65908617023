"""Keeps the entries of the schedule and sends what is due, one tick at a time.

Made and asked by ``beat.service``, in the beat process; sends through the app. Before a task is sent, its run is
recorded (:meth:`Scheduler.reserve`) and stored (:meth:`Scheduler.sync`): a process that is killed in between loses this
one run, and none is sent twice.
"""

from __future__ import annotations

import copy
import heapq
import logging
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple
from uuid import uuid4

from turbo.amqp.client.connection import ConnectionGone
from turbo.beat import last_runs
from turbo.beat.entry import ScheduleEntry
from turbo.beat.runs import Run
from turbo.beat.schedules import human_seconds
from turbo.exceptions import ImproperlyConfigured, TurboError
from turbo.policy.clock_step import ClockStep
from turbo.policy.restarts import Backoff, reconnect_delay
from turbo.policy.wall_time import aware

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.app.base import Turbo
    from turbo.beat.runs import Runs
    from turbo.beat.schedules import schedstate

logger = logging.getLogger("celery.beat")

#: Seconds of the longest sleep between two looks at the schedule.
DEFAULT_MAX_INTERVAL: Final = 300
#: Seconds that an entry is looked at before it is due, so that it is not sent late by the time of the look.
_AHEAD: Final = 0.010
#: Pauses while the broker cannot be reached.
_BACKOFF: Final = Backoff(first=0.5, cap=30.0)


class SchedulingError(TurboError):
    """A task that was due could not be sent."""


class _Due(NamedTuple):
    """When an entry is to be looked at, as a Unix time."""

    time: float
    priority: int
    entry: ScheduleEntry


class Scheduler:
    """The entries of ``beat_schedule``, whose last runs end with the process.

    ``max_interval`` is the longest time between two looks in seconds. ``lazy``: set no schedule up. ``pause`` waits so
    many seconds, and returns True when beat is to end. ``claim`` stores the last runs for the beat that follows this
    one; if it returns False, this beat may send nothing. ``wall`` and ``monotonic`` are the clocks, in seconds.
    Subclasses may override every method without an underscore.
    """

    Entry: ClassVar[type[ScheduleEntry]] = ScheduleEntry
    max_interval: float = DEFAULT_MAX_INTERVAL

    def __init__(
        self,
        app: Turbo,
        schedule: Mapping[str, Any] | None = None,
        max_interval: float | None = None,
        *,
        lazy: bool = False,
        pause: Callable[[float], bool | None] = time.sleep,
        claim: Callable[[Runs], bool] | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        **_: Any,
    ) -> None:
        self.app = app
        self.data: dict[str, Any] = dict(schedule or {})
        self.max_interval = max_interval or app.conf["beat_max_loop_interval"] or self.max_interval
        self._pause = pause
        self._claim = claim
        self._wall = wall
        self._monotonic = monotonic
        self._clock_step = ClockStep()
        self._heap: list[_Due] | None = None
        #: The schedule as it was when the heap was made.
        self._seen: dict[str, ScheduleEntry] = {}
        if not lazy:
            self.setup_schedule()

    # -- the entries -----------------------------------------------------------------------------------------

    @property
    def schedule(self) -> dict[str, ScheduleEntry]:
        """The entries by name."""
        return self.get_schedule()

    @schedule.setter
    def schedule(self, schedule: dict[str, ScheduleEntry]) -> None:
        self.set_schedule(schedule)

    def get_schedule(self) -> dict[str, ScheduleEntry]:
        """Return the entries by name."""
        return self.data

    def set_schedule(self, schedule: dict[str, ScheduleEntry]) -> None:
        """Replace the entries."""
        self.data = schedule

    def setup_schedule(self) -> None:
        """Make the entries of the setting ``beat_schedule``."""
        self.merge_inplace(self.app.conf["beat_schedule"])

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the entries those of ``b``; an entry that exists keeps its last run."""
        schedule = self.schedule
        for name in set(schedule) - set(b):
            del schedule[name]
        for name, given in b.items():
            entry = self._maybe_entry(name, given)
            if name in schedule:
                schedule[name].update(entry)
            else:
                schedule[name] = entry

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add entries, given as dicts or entries."""
        self.schedule.update({name: self._maybe_entry(name, entry) for name, entry in dict_.items()})

    def add(self, **kwargs: Any) -> ScheduleEntry:
        """Add an entry and return it."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[str(entry.name)] = entry
        return entry

    def _maybe_entry(self, name: str, entry: Any) -> ScheduleEntry:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        return _made(self.Entry, name, entry, self.app)

    def runs(self) -> dict[str, Run]:
        """Return the last run of each entry."""
        zone = self.app.timezone
        return {
            name: Run(aware(entry.last_run_at, zone), entry.total_run_count) for name, entry in self.schedule.items()
        }

    @property
    def shares_runs(self) -> bool:
        """Whether the last runs are also left to the beat that follows this one."""
        return self._claim is not None

    def take_over(self, runs: Runs) -> None:
        """Give each entry its last run of ``runs``, unless it has run later itself."""
        self.schedule.update(last_runs.taken_over(self.schedule, self.runs(), runs, self._now()))
        self._heap = None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    # -- ticking ---------------------------------------------------------------------------------------------

    def tick(self) -> float:
        """Send at most one task that is due; return the seconds until the next tick."""
        step = self._clock_step.look(self._wall(), self._monotonic())
        if step < 0:
            self.schedule.update(last_runs.after_step_back(self.schedule, -step, self._now(), self.app.timezone))
            self._heap = None
        if self._heap is None or not self.schedules_equal(self._seen, self.schedule):
            self._seen = copy.copy(self.schedule)
            self.populate_heap()
        heap = self._heap
        if not heap:
            return self.max_interval
        due = heap[0]
        now = self._wall()
        if due.time > now:
            return min(due.time - now, self.max_interval)
        entry = due.entry
        is_due, until_next = self._state(entry)
        if is_due:
            entry = self._run(entry)
        heapq.heapreplace(heap, _Due(_look_at(now, until_next), due.priority, entry))
        return max(0.0, min(heap[0].time - self._wall(), self.max_interval))

    def populate_heap(self) -> None:
        """Order the entries by the time of their next run."""
        heap = []
        for entry in self.schedule.values():
            is_due, until_next = self._state(entry)
            heap.append(_Due(_look_at(self._wall(), 0.0 if is_due else until_next), 5, entry))
        heapq.heapify(heap)
        self._heap = heap

    def is_due(self, entry: ScheduleEntry) -> schedstate | tuple[bool, float]:
        """Return whether an entry is due, and the seconds until the next look."""
        return entry.is_due()

    def _state(self, entry: ScheduleEntry) -> tuple[bool, float]:
        """As :meth:`is_due`, but an entry that raises is looked at again later."""
        try:
            is_due, until_next = self.is_due(entry)
        except Exception:
            logger.exception(
                "beat: Cannot calculate the next run of %r, trying again in %s.",
                entry.name,
                human_seconds(self.max_interval),
            )
            return False, self.max_interval
        return is_due, self.max_interval if until_next is None else until_next

    def schedules_equal(self, old: Mapping[str, ScheduleEntry], new: Mapping[str, ScheduleEntry]) -> bool:
        """Return whether two schedules send the same tasks at the same times."""
        return old.keys() == new.keys() and all(new[name] is entry or new[name] == entry for name, entry in old.items())

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        """Record that a run of ``entry`` begins now; return the entry that follows."""
        following = self.schedule[str(entry.name)] = next(entry)
        return following

    def sync(self) -> None:
        """Store the last runs; called before each sending. Does nothing here."""

    def close(self) -> None:
        """Store the last runs at the end."""
        self.sync()

    @property
    def info(self) -> str:
        """Lines for the banner."""
        return ""

    # -- sending ---------------------------------------------------------------------------------------------

    def _run(self, entry: ScheduleEntry) -> ScheduleEntry:
        following = self._seen[str(entry.name)] = self.reserve(entry)
        if self._claim is not None and not self._claim(self.runs()):
            # Another beat sends this run.
            self.schedule[str(entry.name)] = entry
            return entry
        self.sync()
        self.apply_entry(entry)
        return following

    def apply_entry(self, entry: ScheduleEntry) -> None:
        """Send an entry's task; a failure is logged and does not stop its next run."""
        logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, advance=False)
        except SchedulingError as error:
            # What went wrong in the program's code needs its traceback; an absent broker does not.
            known = isinstance(error.__cause__, ConnectionGone)
            logger.error("Message Error: %s; this run of %s is left out", error, entry.name, exc_info=not known)
        else:
            logger.debug("%s sent. id->%s", entry.task, getattr(result, "id", None))

    def apply_async(self, entry: ScheduleEntry, advance: bool = True, **more: Any) -> Any:
        """Send the task of an entry and return its result's handle.

        ``advance`` records the run first. While the broker cannot be reached, it tries again,
        ``broker_connection_max_retries`` times. Raises SchedulingError.
        """
        if advance:
            entry = self.reserve(entry)
            self.sync()
        try:
            args, kwargs = entry.arguments()
            # With an id of its own, a message that arrives twice since its confirm got lost can be recognised.
            options = {"task_id": str(uuid4()), **entry.options, **more}
            options["headers"] = {
                "celery_beat_task": True,
                "periodic_task_name": entry.name,
                **(options.get("headers") or {}),
            }
            return self._until_connected(entry, args, kwargs, options)
        except Exception as error:
            raise SchedulingError(f"Couldn't apply scheduled task {entry.name}: {error}") from error

    def _until_connected(self, entry: ScheduleEntry, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        limit = self.app.conf["broker_connection_max_retries"] or None
        failures = 0
        while True:
            try:
                task = self.app.tasks.get(str(entry.task))
                if task is not None:
                    return task.apply_async(args, kwargs, **options)
                return self.send_task(entry.task, args, kwargs, **options)
            except ConnectionGone as error:
                failures += 1
                if limit is not None and failures > limit:
                    raise
                seconds = reconnect_delay(failures, random.random(), _BACKOFF)
                logger.error("beat: Connection error: %s. Trying again in %.1f seconds...", error, seconds)
                if self._pause(seconds):
                    raise

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Send a task that is not registered here, by its name."""
        return self.app.send_task(*args, **kwargs)


def _look_at(now: float, seconds: float) -> float:
    """Return when to look at an entry that is due in ``seconds``, as Unix time."""
    return now + (seconds - _AHEAD if seconds > _AHEAD else seconds)


def _made(kind: type[ScheduleEntry], name: str, given: Any, app: Turbo) -> ScheduleEntry:
    """Make an entry of what ``beat_schedule`` gives.

    Raises ImproperlyConfigured with the entry's name.
    """
    try:
        entry = kind(**{**dict(given), "name": name, "app": app})
        every = getattr(entry.schedule, "run_every", None)
        if isinstance(every, timedelta) and every <= timedelta(0):
            # It would be due again at once, without a pause between two messages.
            raise ValueError(f"a schedule of {every.total_seconds():g} seconds is always due")
        if entry.task is None:
            raise ValueError("no task")
        return entry
    except (AttributeError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"beat_schedule: the entry {name!r} cannot be used: {error}; it needs task and schedule, as in "
            '{"task": "proj.tick", "schedule": 30.0}'
        ) from error
