"""Runs the worker bootsteps of a Celery app that need nothing of Celery's worker but its timer.

Runs in the master, on the hook thread: ``adopted.hooks`` starts them before ``worker_ready`` and stops them after the
last task. What their timer calls runs on a thread of the timer's. Steps that require other parts of Celery's worker
have nothing to start after, so they do not run; ``adopted.unsupported`` names them. A step that raises is logged, and
the worker goes on.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery.worker import components
from kombu.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery import Celery

    from turbo.adopted.facade import AdoptedWorker

logger = logging.getLogger("celery.bootsteps")

#: What a step may require of Celery's worker.
_THERE: Final = frozenset({components.Timer})


def runnable(app: Celery) -> list[Any]:
    """Return the classes of the worker steps that run here, each after those that it requires."""
    own = sorted({_class_of(step) for step in app.steps.get("worker", ())}, key=lambda step: str(step.name))
    ordered: list[Any] = []
    while True:
        found = [step for step in own if step not in ordered and _required(step) <= _THERE | set(ordered)]
        if not found:
            return ordered
        ordered += found


def idle(app: Celery) -> list[Any]:
    """Return the worker steps that do not run here, as the app names them."""
    ran = runnable(app)
    return [step for step in app.steps.get("worker", ()) if _class_of(step) not in ran]


class WorkerSteps:
    """The worker steps of one app, from :meth:`start` to :meth:`stop`."""

    def __init__(self, app: Celery, worker: AdoptedWorker) -> None:
        self._app = app
        self._worker = worker

    def start(self) -> None:
        """Make the steps and start those that want to be included."""
        for kind in runnable(self._app):
            _guarded(kind, "starting", partial(self._include, kind))
        for step in self._worker.steps:
            _guarded(step, "starting", partial(step.start, self._worker))

    def stop(self) -> None:
        """Stop the steps, the last one first, and then their timer."""
        started = self._worker.steps[::-1]
        self._worker.steps.clear()
        for step in started:
            _guarded(step, "closing", partial(step.close, self._worker))
        for step in started:
            _guarded(step, "stopping", partial(step.stop, self._worker))
        self._worker.end_timer()

    def _include(self, kind: Any) -> None:
        kind(self._worker, **self._worker.options).include(self._worker)


def _guarded(step: Any, doing: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception:
        logger.exception("The bootstep %s raised while %s; the worker goes on", step, doing)


def _class_of(step: Any) -> Any:
    return symbol_by_name(step)


def _required(step: Any) -> set[Any]:
    required: Iterable[Any] = step.requires
    return {symbol_by_name(name) for name in required}
