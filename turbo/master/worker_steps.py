"""Runs a program's worker bootsteps that need nothing but its timer.

Runs in the master, on the hook thread: ``master.bootsteps`` starts them before ``worker_ready`` and stops them after
the last task. What their timer calls runs on a thread of the timer's. Which steps run is decided by ``native.steps``
and ``adopted.steps``. A step that raises is logged, and the worker goes on.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("celery.bootsteps")


class Stepped(Protocol):
    """The worker object, as steps of the program's see it."""

    #: The command line's options.
    options: dict[str, Any]
    #: The steps that have included themselves.
    steps: list[Any]

    def end_timer(self) -> None:
        """End the timer, if a step has used it."""


class WorkerSteps:
    """The worker steps of one app, from :meth:`start` to :meth:`stop`.

    ``kinds``: their classes, in their order.
    """

    def __init__(self, kinds: Sequence[Any], worker: Stepped) -> None:
        self._kinds = kinds
        self._worker = worker

    def start(self) -> None:
        """Make the steps and start those that want to be included."""
        for kind in self._kinds:
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
