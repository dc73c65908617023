"""Beat of a Celery app: Celery's own service, with the app's scheduler class.

Run by ``cli.beat`` through ``adopted.app``, in a process of its own. Entries, last runs and messages are the
scheduler's. turbo adds the election of one of several beats, and sleeps so that beat ends as soon as it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import beat, signals
from celery.utils.imports import load_extension_class_names, symbol_by_name

from turbo.beat.runs import Run
from turbo.exceptions import ImproperlyConfigured
from turbo.policy.wall_time import is_naive

if TYPE_CHECKING:
    from celery import Celery

    from turbo.beat.options import BeatOptions
    from turbo.beat.runs import Runs
    from turbo.beat.stop_request import StopRequest
    from turbo.beat.turn import Turn

#: Where packages name their schedulers: django-celery-beat's is ``django``.
_NAMES: Final = "celery.beat_schedulers"
#: What a tick tells Celery's service to sleep: enough for it to store the last runs when that is due.
_NO_SLEEP: Final = 1e-6
#: Seconds after which a sleeping scheduler returns to Celery's service, which notes that beat is alive.
_LONGEST: Final = 1.0


def run_beat(app: Celery, options: BeatOptions, stop: StopRequest, turn: Turn) -> None:
    """Run Celery's service whenever this beat leads, until it is asked to end.

    The service and its scheduler exist only while it leads: another beat on this machine may use the same file. Raises
    ImproperlyConfigured for an unknown scheduler class.
    """
    scheduler = _scheduler_class(options.scheduler or app.conf.beat_scheduler)
    try:
        while not stop.wait(0):
            found = turn.wait(_LONGEST)
            if found is None:
                continue
            service = beat.Service(
                app,
                max_interval=options.max_interval,
                schedule_filename=options.schedule_filename,
                scheduler_cls=_elected(scheduler, turn, found),
            )
            if options.beside_worker:
                signals.beat_embedded_init.send(sender=service)
            service.start()
    finally:
        turn.close()


def _scheduler_class(name: Any) -> Any:
    try:
        return symbol_by_name(name, aliases=dict(load_extension_class_names(_NAMES)))
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"the scheduler {name!r} cannot be imported: {error}") from error


def _elected(scheduler: Any, turn: Turn, found: Runs) -> Any:
    """Return a subclass of a scheduler class for an elected beat.

    It goes on after the runs ``found``, and ends with this beat's turn.
    """

    class Elected(scheduler):  # type: ignore[misc]
        _rest = 0.0

        def setup_schedule(self) -> None:
            super().setup_schedule()
            take_over(self.schedule, found)
            turn.claim(runs_of(self.schedule))

        def tick(self, *args: Any, **kwargs: Any) -> float:
            if self._rest <= 0 and turn.leads:
                self._rest = super().tick(*args, **kwargs) or 0.0
            seconds = min(self._rest, _LONGEST)
            self._rest -= seconds
            if turn.rest(seconds) or not turn.leads:
                # The service takes this as its end, as it does in Celery's own handler of SIGTERM.
                raise SystemExit
            return _NO_SLEEP

        def apply_entry(self, entry: Any, producer: Any = None) -> None:
            if turn.claim(runs_of(self.schedule)):
                super().apply_entry(entry, producer=producer)
            else:
                # Another beat sends this run.
                self.schedule[entry.name] = entry

    Elected.__name__, Elected.__qualname__ = scheduler.__name__, scheduler.__qualname__
    Elected.__module__ = scheduler.__module__
    return Elected


def runs_of(schedule: Any) -> dict[str, Run]:
    """Return the last runs of Celery's entries.

    Those without a zone are left out: no other beat can read them.
    """
    return {
        name: Run(entry.last_run_at, entry.total_run_count or 0)
        for name, entry in schedule.items()
        if not is_naive(entry.last_run_at)
    }


def take_over(schedule: Any, runs: Runs) -> None:
    """Give Celery's entries those runs of ``runs`` that are later than their own."""
    for name, own in runs_of(schedule).items():
        found = runs.get(name)
        if found is not None and (not own.total_run_count or own.last_run_at < found.last_run_at):
            entry = schedule[name]
            entry.last_run_at, entry.total_run_count = found.last_run_at, found.total_run_count
