"""Makes a child a Celery pool process.

It sets Celery's state after the fork, its signals and its tracers.

Runs in a child, called by ``adopted.executor`` before the first task and at the end. The steps are those of a new
process of Celery's prefork pool, in the same order, without those that turbo's child has already done (signals, title,
session). ``adopted.tracing`` builds the tracers. It must never run in the master.
"""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import billiard.pool
import billiard.process
import billiard.util
from billiard.exceptions import SoftTimeLimitExceeded
from celery import signals
from celery._state import _set_task_join_will_block, set_default_app
from celery.app import trace
from celery.worker import state as worker_state

from turbo.adopted import logs, speedups
from turbo.adopted.tracing import build_trace
from turbo.child import leaving

if TYPE_CHECKING:
    from celery import Celery

    from turbo.child.time_limits import SoftLimit

logger = logging.getLogger(__name__)

_hostname = ""


def enter(app: Celery, index: int, hostname: str, soft: SoftLimit) -> None:
    """Become a pool process of ``app``. Sends ``worker_process_init``."""
    global _hostname
    _hostname = hostname
    soft.error = SoftTimeLimitExceeded
    _take_identity(index)
    billiard.util._run_after_forkers()
    _set_task_join_will_block(True)
    app.loader.init_worker()
    app.loader.init_worker_process()
    logs.enter_child(app, hostname)
    _publish_with_confirms(app)
    app.set_current()
    set_default_app(app)
    app.finalize()
    trace._tasks = app._tasks
    speedups.install()
    for task in list(app.tasks.values()):
        build_trace(app, task, hostname, soft)
    worker_state.reset_state()
    signals.worker_process_init.send(sender=hostname)


def _publish_with_confirms(app: Celery) -> None:
    """Have the broker confirm what tasks send, unless ``confirm_publish`` is set.

    Without a confirm, a message is lost silently if the broker stops before it has accepted it, and the message of a
    late-acked task would still be acknowledged.
    """
    options = dict(app.conf.broker_transport_options or {})
    options.setdefault("confirm_publish", True)
    app.conf.broker_transport_options = options


class _Leaving(billiard.pool.Worker):  # type: ignore[misc]  # billiard has no types
    """A pool process that ends before it gets any job.

    Libraries detect the end of a pool process by wrapping ``Worker.workloop``; sentry-sdk sends its buffered events
    there. So the loop is entered in order to end.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(None, SimpleNamespace(put=None))
        self._exit_code = exit_code

    def contribute_to_object(self, obj: Any) -> Any:
        """Set no pipes: there are none to read from."""
        obj.inqW_fd = obj.synqW_fd = obj.wait_for_syn = None
        return obj

    def wait_for_job(self) -> None:
        """Raise SystemExit, as the end of a pool does."""
        raise SystemExit(self._exit_code)


def leave(exit_code: int) -> None:
    """Send ``worker_process_shutdown`` before the process ends.

    Celery logs a receiver's error.
    """
    with leaving.bounded():
        try:
            _Leaving(exit_code).workloop()
        except SystemExit:
            logger.debug("The child exits with code %d", exit_code)
        except Exception:
            logger.exception("A library's code for the end of a pool process raised; the child goes on to exit")
        signals.worker_process_shutdown.send(sender=_hostname, pid=os.getpid(), exitcode=exit_code)


def _take_identity(index: int) -> None:
    """Set the index of this pool process for billiard and for log records.

    Log records read that of multiprocessing.
    """
    both: tuple[Any, Any] = (billiard.process.current_process(), billiard.process._mproc.current_process())
    for process in both:
        process._name = f"ForkPoolWorker-{index}"
        process._identity = (index,)
        process.index = index - 1
