"""Runs the worker bootsteps of a Celery app that need nothing of Celery's worker but its timer.

Runs in the master, on the hook thread: ``adopted.hooks`` starts them before ``worker_ready`` and stops them after the
last task. What their timer calls runs on a thread of the timer's. Steps that require other parts of Celery's worker
have nothing to start after, so they do not run; ``adopted.unsupported`` names them. ``adopted.consumer_steps`` runs the
steps of the consumer. A step that raises is logged, and
the worker goes on.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery.bootsteps import ConsumerStep, Step
from celery.worker import components
from celery.worker.consumer import Connection
from kombu.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery import Celery

    from turbo.adopted.facade import AdoptedWorker

logger = logging.getLogger("celery.bootsteps")

WORKER: Final = "worker"
CONSUMER: Final = "consumer"
#: What steps may require of Celery's worker, by blueprint, and the classes of which they have to be.
_THERE: Final[dict[str, frozenset[Any]]] = {
    WORKER: frozenset({components.Timer}),
    CONSUMER: frozenset({Connection}),
}
_KIND: Final = {WORKER: Step, CONSUMER: ConsumerStep}


def runnable(app: Celery, blueprint: str = WORKER) -> list[Any]:
    """Return the classes of the steps of a blueprint that run here, each after those that it requires."""
    given = {symbol_by_name(step) for step in app.steps.get(blueprint, ())}
    own = sorted((step for step in given if issubclass(step, _KIND[blueprint])), key=lambda step: str(step.name))
    ordered: list[Any] = []
    while True:
        there = _THERE[blueprint] | set(ordered)
        found = [step for step in own if step not in ordered and _required(step) <= there]
        if not found:
            return ordered
        ordered += found


def idle(app: Celery, blueprint: str) -> list[Any]:
    """Return the steps of a blueprint that do not run here, as the app names them."""
    ran = runnable(app, blueprint)
    return [step for step in app.steps.get(blueprint, ()) if symbol_by_name(step) not in ran]


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


def _required(step: Any) -> set[Any]:
    required: Iterable[Any] = step.requires
    return {symbol_by_name(name) for name in required}
