"""Fails a task that did not run, by Celery's own code.

Everything happens that a failure of its body would cause.

Runs in a child, called by ``adopted.executor`` for a message that is given up. FAILURE is stored, error callbacks are
sent, a chord and a chain learn of it, ``on_failure`` and ``after_return`` are called and ``task_failure`` is sent, with
the task's request current. It must never raise: exceptions from Celery's code or the app's are logged. Which exceptions
of a body end the process instead is said here too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import billiard
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import states
from celery._state import _task_stack
from celery.app import trace
from celery.app.task import Context

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("celery.app.trace")

#: Whether the installed billiard's pool reports whatever a body raises. An older one reports subclasses of Exception;
#: its processes end by all else.
_REPORTS_ALL = billiard.VERSION[:2] >= (4, 3)


def fail(task: Any, task_id: str, request: Mapping[str, Any], error: WorkerLostError) -> ExceptionInfo:
    """Fail the task with ``error``; return the payload for its own request."""
    args, kwargs = request["args"], request["kwargs"]
    context = Context(dict(request), args=args, kwargs=kwargs, called_directly=False)
    _task_stack.push(task)
    task.request_stack.push(context)
    try:
        try:
            raise error
        except WorkerLostError as raised:
            einfo = ExceptionInfo()
            trace.TraceInfo(states.FAILURE, raised).handle_error_state(task, context)
            task.after_return(states.FAILURE, raised, task_id, args, kwargs, None)
    except Exception:
        logger.exception("A handler or receiver for the failure of %s[%s] raised", task.name, task_id)
    finally:
        task.request_stack.pop()
        _task_stack.pop()
    return einfo


def ends_the_process(error: BaseException, *, reports_all: bool = _REPORTS_ALL) -> bool:
    """Whether billiard's processes end by this; else the task has failed."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return True
    return not (reports_all or isinstance(error, Exception))
