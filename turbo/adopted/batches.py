"""Recognises tasks of celery-batches, and runs their batches.

That package's own code runs them.

Celery's worker collects for such a task in a ``Strategy`` of the task's own, which needs Celery's consumer. Here
``master.delivery.batches`` collects by the task's ``flush_every`` and ``flush_interval``, and a child calls the
package's function that runs a batch: signals, log lines and the requests that the body gets are the package's. The
command and the children use this module. It must never import the package: where no task uses it, it may be missing.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from celery import Task

from turbo.adopted import tracing
from turbo.policy.batching import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.child.time_limits import SoftLimit
    from turbo.ring.control_page import ChildPage

_PACKAGE = "celery_batches"
#: What collects the messages. turbo does that in its place, unless a program has replaced it.
_COLLECTING = ("Strategy", "flush", "_do_flush")


def runs_batches(task: Any) -> bool:
    """Whether turbo can collect for this task.

    Its class is celery-batches', with the collecting unchanged.
    """
    base = getattr(sys.modules.get(_PACKAGE), "Batches", None)
    return (
        base is not None
        and isinstance(task, base)
        and type(task).start_strategy is Task.start_strategy
        and all(getattr(type(task), name) is getattr(base, name) for name in _COLLECTING)
    )


def batch_of(task: Any) -> Batch | None:
    """Return the size and interval of a task's batches; None for other tasks."""
    if not runs_batches(task):
        return None
    return Batch(int(task.flush_every), float(task.flush_interval))


class BatchBody:
    """Runs the batches of one task in one child."""

    def __init__(self, task: Any, page: ChildPage, soft: SoftLimit) -> None:
        self._task = task
        self._page = page
        self._soft = soft
        #: The batch that runs in this thread: its last number, and what the body raised.
        self._here = threading.local()
        body = task.run

        def noted(*args: Any, **kwargs: Any) -> Any:
            page.begin_body(self._here.last)
            try:
                return body(*args, **kwargs)
            except BaseException as error:
                self._here.error = error
                raise

        task.run = tracing.guarded(noted, soft)

    def run(self, requests: Sequence[dict[str, Any]], first: int, last: int) -> BaseException | None:
        """Call the body with these requests; return what it raised.

        ``adopted.request_fields`` makes the requests. ``first`` and ``last`` are the numbers of their records. Raises
        what celery-batches lets pass.
        """
        package = sys.modules[_PACKAGE]
        self._soft.running, self._here.last, self._here.error = first, last, None
        given = [_simple(package.SimpleRequest, self._task.name, request) for request in requests]
        try:
            package.trace.apply_batches_task(self._task, (given,), 0, None)
        finally:
            self._soft.running = 0
            self._page.leave_body()
        error: BaseException | None = self._here.error
        self._here.error = None
        return error


def _simple(kind: Any, name: str, request: dict[str, Any]) -> Any:
    return kind(
        id=request["id"],
        name=name,
        args=request["args"],
        kwargs=request["kwargs"],
        delivery_info=request["delivery_info"],
        hostname=request["hostname"],
        ignore_result=request.get("ignore_result", False),
        reply_to=request["reply_to"],
        correlation_id=request["correlation_id"],
        request_dict=request,
    )
