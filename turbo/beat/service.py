"""The loop of the beat process: ticks, then sleeps until the next tick.

Run by ``native.beat`` in the process of ``turbo beat``, with the scheduler that ``beat_scheduler`` names. It must never
start a thread.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from turbo import signals
from turbo.app.conf.loading import resolve
from turbo.beat.persistent import PersistentScheduler
from turbo.beat.scheduler import Scheduler
from turbo.beat.schedules import human_seconds
from turbo.beat.stop_request import StopRequest
from turbo.beat.turn import SingleBeat
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.beat.turn import Turn

logger = logging.getLogger("celery.beat")

#: What Celery calls the schedulers that turbo has under the same names.
_OWN: Final = {"PersistentScheduler": PersistentScheduler, "Scheduler": Scheduler}
_CELERYS: Final = "celery.beat"


class Service:
    """Beat of one app. What is not given is read from the settings."""

    def __init__(
        self,
        app: Turbo,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
        stop_request: StopRequest | None = None,
        turn: Turn | None = None,
    ) -> None:
        self.app = app
        self.max_interval = max_interval
        self.schedule_filename = schedule_filename or app.conf["beat_schedule_filename"]
        self.scheduler_cls = scheduler_class(scheduler_cls or app.conf["beat_scheduler"])
        self._stop = stop_request or StopRequest()
        self._turn = turn or SingleBeat(self._stop)

    def get_scheduler(self, lazy: bool = False) -> Scheduler:
        """Make a scheduler; a ``lazy`` one has no entries."""
        made: Scheduler = self.scheduler_cls(
            app=self.app,
            schedule_filename=self.schedule_filename,
            max_interval=self.max_interval,
            lazy=lazy,
            pause=self._stop.wait,
            claim=None if isinstance(self._turn, SingleBeat) else self._turn.claim,
        )
        return made

    @cached_property
    def scheduler(self) -> Scheduler:
        """The scheduler, made at first use."""
        return self.get_scheduler()

    def start(self, embedded_process: bool = False) -> None:
        """Send what is due until beat is asked to end.

        ``embedded_process``: beside a worker. Raises ImproperlyConfigured for an unusable schedule.
        """
        scheduler = self.scheduler
        logger.info("beat: Starting...")
        logger.debug("beat: Ticking with max interval->%s", human_seconds(scheduler.max_interval))
        signals.beat_init.send(sender=self)
        if embedded_process:
            signals.beat_embedded_init.send(sender=self)
        try:
            while not self._stop.wait(0):
                if not self._turn.leads and not self._begin(scheduler):
                    continue
                seconds = scheduler.tick()
                if seconds > 0:
                    logger.debug("beat: Waking up in %s.", human_seconds(seconds))
                    self._turn.rest(seconds)
        finally:
            logger.info("beat: Shutting down...")
            if self._turn.leads:
                self.sync()
            self._turn.close()

    def _begin(self, scheduler: Scheduler) -> bool:
        """Wait for the turn, and take the last runs over; return whether it has come."""
        found = self._turn.wait(scheduler.max_interval)
        if found is None:
            return False
        scheduler.take_over(found)
        if not self._turn.claim(scheduler.runs()):
            return False
        scheduler.sync()
        return True

    def sync(self) -> None:
        """Store the last runs."""
        self.scheduler.close()

    def stop(self) -> None:
        """Ask beat to end; for signal handlers and other threads too."""
        self._stop.ask()


def scheduler_class(given: Any) -> Any:
    """Return the class that ``beat_scheduler`` names.

    Celery's own names stand for turbo's. Raises ImproperlyConfigured for a class that cannot be imported.
    """
    if isinstance(given, str):
        module, _, name = given.replace(":", ".").rpartition(".")
        if module in (_CELERYS, "") and name in _OWN:
            return _OWN[name]
    try:
        found = resolve(given)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"beat_scheduler={given!r} cannot be imported: {error}") from error
    if not callable(getattr(found, "tick", None)):
        raise ImproperlyConfigured(f"beat_scheduler={given!r} must be a class such as turbo.beat:PersistentScheduler")
    return found
