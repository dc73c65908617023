"""Calls a task's handlers and signal receivers, in Celery's order.

Runs in a child, called by ``native.executor`` before the body and by ``child.endings`` when its outcome is stored; the
run's request is current meanwhile. An exception from a handler or receiver is logged and must never change the outcome.
Tasks without handlers do not come here while no signal has receivers.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from typing import TYPE_CHECKING, Any

from turbo import signals
from turbo.app.tasks.einfo import ExceptionInfo, UnpicklableError

if TYPE_CHECKING:
    from turbo.child.reporting import Run
    from turbo.exceptions import Retry

logger = logging.getLogger("celery.app.trace")

# The lists themselves, which are never replaced: testing one costs less than a call.
prerun_receivers = signals.task_prerun.receivers
postrun_receivers = signals.task_postrun.receivers
success_receivers = signals.task_success.receivers
failure_receivers = signals.task_failure.receivers
retry_receivers = signals.task_retry.receivers
internal_error_receivers = signals.task_internal_error.receivers


def prerun(run: Run) -> None:
    """Send ``task_prerun``, before the body is called."""
    task, message = run.plan.task, run.message
    signals.task_prerun.send(
        sender=task, task_id=message.id, task=task, args=message.args, kwargs=message.kwargs
    )  # fmt: skip


def postrun(run: Run, value: object, state: str | None) -> None:
    """Send ``task_postrun``, last of all.

    ``value`` is what the body returned or raised.
    """
    if not postrun_receivers:
        return
    task, message = run.plan.task, run.message
    signals.task_postrun.send(
        sender=task,
        task_id=message.id,
        task=task,
        args=message.args,
        kwargs=message.kwargs,
        retval=value,
        state=state,
    )


def success(run: Run, result: object, runtime: float) -> None:
    """Call ``on_success`` and send ``task_success``, after SUCCESS is stored.

    ``runtime`` in seconds.
    """
    plan, message = run.plan, run.message
    if plan.on_success is not None:
        _call(plan.on_success, result, message.id, message.args, message.kwargs)
    if success_receivers:
        signals.task_success.send(sender=plan.task, result=result, runtime=runtime)


def failure(run: Run, error: BaseException, einfo: ExceptionInfo) -> None:
    """Call ``on_failure`` and send ``task_failure``, after FAILURE is stored."""
    plan, message = run.plan, run.message
    if plan.on_failure is not None:
        _call(plan.on_failure, error, message.id, message.args, message.kwargs, einfo)
    failed(run, error, einfo)


def failed(run: Run, error: BaseException, einfo: ExceptionInfo) -> None:
    """Send ``task_failure`` alone."""
    if failure_receivers:
        message = run.message
        signals.task_failure.send(
            sender=run.plan.task,
            task_id=message.id,
            exception=error,
            args=message.args,
            kwargs=message.kwargs,
            traceback=error.__traceback__,
            einfo=einfo,
        )


def after_return(run: Run, state: str, value: object) -> None:
    """Call ``after_return``, after ``on_success`` or ``on_failure``.

    Celery passes no einfo here.
    """
    handler, message = run.plan.after_return, run.message
    if handler is not None:
        _call(handler, state, value, message.id, message.args, message.kwargs, None)


def retry(run: Run, reason: Retry, einfo: ExceptionInfo) -> None:
    """Call ``on_retry`` and send ``task_retry``, after RETRY and the attempt.

    RETRY is stored and the next attempt sent by then.
    """
    plan, message = run.plan, run.message
    if plan.on_retry is not None:
        _call(plan.on_retry, reason.exc, message.id, message.args, message.kwargs, einfo)
    if retry_receivers:
        signals.task_retry.send(sender=plan.task, request=run.request, reason=reason, einfo=einfo)


def internal_error(run: Run, error: BaseException, einfo: ExceptionInfo) -> None:
    """Warn and send ``task_internal_error``: a step after the body raised."""
    task, message = run.plan.task, run.message
    warnings.warn(RuntimeWarning(f"Exception raised outside body: {error!r}:\n{einfo}"), stacklevel=2)
    if internal_error_receivers:
        signals.task_internal_error.send(
            sender=task,
            task_id=message.id,
            args=message.args,
            kwargs=message.kwargs,
            request=run.request,
            exception=error,
            traceback=error.__traceback__,
            einfo=einfo,
        )


def success_payload(text: str, runtime: float) -> bytes:
    """Encode a result for the task's request in the master: text and seconds."""
    return pickle.dumps((False, text, runtime))


def failure_payload(einfo: ExceptionInfo) -> bytes:
    """Encode an exception for the task's own request in the master."""
    try:
        payload = pickle.dumps((True, einfo, 0.0))
        # A class may also fail to unpickle.
        pickle.loads(payload)
    except Exception as problem:  # noqa: BLE001 - an exception's own methods may raise anything
        logger.debug("%r does not pickle: %r", einfo, problem)
        stand_in = ExceptionInfo(UnpicklableError(repr(einfo.exception)), einfo.traceback, internal=einfo.internal)
        payload = pickle.dumps((True, stand_in, 0.0))
    return payload


def _call(handler: Any, *args: Any) -> None:
    try:
        handler(*args)
    except Exception:
        logger.exception("Handler %s raised", getattr(handler, "__qualname__", handler))
