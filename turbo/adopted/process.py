"""What makes a child a Celery pool process: Celery's state after the fork, its signals, its tracers.

Runs in a child, called by ``adopted.executor`` before the first task and at the end. The steps are those that Celery's
prefork pool takes in a new process, in its order; what turbo's child has done already (signals, title, session) is
left out.

The soft limit is raised in the body alone. Celery raises it wherever the signal finds the process, also in its own
bookkeeping around the body, where it breaks what it hits. Here a tracer is built around a ``run`` that arms the limit
for the call of the body only (``child.time_limits`` says why that is enough). A task class with a ``__call__`` of its
own is called as a whole, so there it is armed for that call.
"""

from __future__ import annotations

import faulthandler
import functools
import logging
import os
from typing import TYPE_CHECKING, Any

import billiard.process
import billiard.util
from billiard.exceptions import SoftTimeLimitExceeded
from celery import signals
from celery._state import _set_task_join_will_block, set_default_app
from celery.app import trace
from celery.worker import state as worker_state

from turbo.adopted import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from turbo.child.time_limits import SoftLimit

logger = logging.getLogger(__name__)

#: Seconds that the receivers of a child's last signal may take.
FAREWELL = 30.0
_STDERR = 2

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
    app.set_current()
    set_default_app(app)
    app.finalize()
    trace._tasks = app._tasks
    for task in list(app.tasks.values()):
        build_trace(app, task, hostname, soft)
    worker_state.reset_state()
    signals.worker_process_init.send(sender=hostname)


def leave(exit_code: int) -> None:
    """The process ends. Sends ``worker_process_shutdown``; a receiver's error is logged by Celery.

    A receiver that does not return within :data:`FAREWELL` ends the process with all stacks on standard error: nobody
    else would, for the master sees a child that has nothing left to do and is about to leave.
    """
    faulthandler.dump_traceback_later(FAREWELL, exit=True, file=_STDERR)
    signals.worker_process_shutdown.send(sender=_hostname, pid=os.getpid(), exitcode=exit_code)
    faulthandler.cancel_dump_traceback_later()


def build_trace(app: Celery, task: Any, hostname: str, soft: SoftLimit) -> None:
    """Give the task the tracer that Celery's pool would give it, with a body that the soft limit may interrupt."""
    if trace.task_has_custom(task, "__call__"):
        _build_around_call(app, task, hostname, soft)
        return
    own = task.__dict__.get("run")
    task.run = _guarded(task.run, soft)
    try:
        task.__trace__ = trace.build_tracer(task.name, task, app.loader, hostname, app=app)
    finally:
        if own is None:
            del task.run
        else:
            task.run = own


def _build_around_call(app: Celery, task: Any, hostname: str, soft: SoftLimit) -> None:
    """The tracer calls the task itself, by its class: arm the limit in front of the class's own ``__call__``."""
    kind = type(task)
    if "__turbo_call__" not in kind.__dict__:
        kind.__turbo_call__ = kind.__call__
        kind.__call__ = _guarded_method(kind.__call__, soft)
    task.__trace__ = trace.build_tracer(task.name, task, app.loader, hostname, app=app)


def _guarded(body: Callable[..., Any], soft: SoftLimit) -> Callable[..., Any]:
    """``body``, armed."""
    call = soft.call

    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        return call(soft.running, body, args, kwargs)

    return run


def _guarded_method(method: Callable[..., Any], soft: SoftLimit) -> Callable[..., Any]:
    """An unbound ``__call__``, armed for the call that the tracer makes and transparent for all others."""
    call = soft.call

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if soft.armed or not soft.running:
            return method(self, *args, **kwargs)
        return call(soft.running, method, (self, *args), kwargs)

    return run


def _take_identity(index: int) -> None:
    """Say which pool process this is, to Celery (by billiard) and to log records (by multiprocessing)."""
    both: tuple[Any, Any] = (billiard.process.current_process(), billiard.process._mproc.current_process())
    for process in both:
        process._name = f"ForkPoolWorker-{index}"
        process._identity = (index,)
        process.index = index - 1
