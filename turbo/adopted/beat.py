"""Beat of a Celery app: Celery's own service with the scheduler class that the app names.

Run by ``cli.beat`` through ``adopted.app``, in a process of its own. Only the sleeping between ticks is turbo's, so
that beat ends as soon as it is asked to. Entries, last runs and messages are the scheduler's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import beat, signals
from celery.utils.imports import load_extension_class_names, symbol_by_name

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celery import Celery

    from turbo.beat.options import BeatOptions
    from turbo.beat.stop_request import StopRequest

#: Where packages name their schedulers: django-celery-beat's is ``django``.
_NAMES: Final = "celery.beat_schedulers"
#: What a tick tells Celery's service to sleep: enough for it to store the last runs when that is due.
_NO_SLEEP: Final = 1e-6
#: Seconds after which a sleeping scheduler returns to Celery's service, which notes that beat is alive.
_LONGEST: Final = 1.0


def run_beat(app: Celery, options: BeatOptions, stop: StopRequest) -> None:
    """Run Celery's service until beat is asked to end. Raises ImproperlyConfigured for an unknown scheduler class."""
    service = beat.Service(
        app,
        max_interval=options.max_interval,
        schedule_filename=options.schedule_filename,
        scheduler_cls=_stoppable(_scheduler_class(options.scheduler or app.conf.beat_scheduler), stop),
    )
    if options.beside_worker:
        signals.beat_embedded_init.send(sender=service)
    service.start()


def _scheduler_class(name: Any) -> Any:
    try:
        return symbol_by_name(name, aliases=dict(load_extension_class_names(_NAMES)))
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"the scheduler {name!r} cannot be imported: {error}") from error


def _stoppable(scheduler: Any, stop: StopRequest) -> Any:
    """Return a subclass of a scheduler class that sleeps in its ticks and leaves the service when beat is to end."""

    class Stoppable(scheduler):  # type: ignore[misc]
        _rest = 0.0

        def tick(self, *args: Any, **kwargs: Any) -> float:
            if self._rest <= 0:
                self._rest = super().tick(*args, **kwargs) or 0.0
            seconds = min(self._rest, _LONGEST)
            self._rest -= seconds
            if stop.wait(seconds):
                # The service takes this as its end, as it does in Celery's own handler of SIGTERM.
                raise SystemExit
            return _NO_SLEEP

    Stoppable.__name__, Stoppable.__qualname__ = scheduler.__name__, scheduler.__qualname__
    Stoppable.__module__ = scheduler.__module__
    return Stoppable
