"""Runs the hooks of a task that ended with its child.

They are error callbacks, handlers and receivers.

Runs in the master, called by ``native.hooks``; the hooks run on its hook thread. They are those that the child would
have run, in the same order: error callbacks, ``on_failure``, ``after_return``, receivers of ``task_failure``. This must
never store a result or settle a message.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from turbo import current, signals, states
from turbo.app.tasks.einfo import ExceptionInfo
from turbo.app.tasks.handlers import Handlers, has_own_request
from turbo.child import followups
from turbo.exceptions import TimeLimitExceeded, TurboError

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.app.task import Task
    from turbo.app.tasks.context import Context
    from turbo.child.chords import Chords, Close
    from turbo.exceptions import Retry
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.protocol.message import TaskMessage
    from turbo.ring.frames import StoreRequest

logger = logging.getLogger("celery.worker.request")

#: The end of a body that names no follow-up, as Celery's encoder writes it and as a compact one does.
_NOTHING_FOLLOWS = (
    b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
    b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]',
)


def has_end_hooks(task: Task, delivery: Delivery) -> bool:
    """Whether any hook runs at the end of this task.

    Compares the body's end and decodes nothing.
    """
    kind = type(task)
    return (
        bool(signals.task_failure.receivers)
        or kind.on_failure is not Handlers.on_failure
        or kind.after_return is not Handlers.after_return
        or has_own_request(task)
        or not delivery.body.endswith(_NOTHING_FOLLOWS)
    )


def log_lost(message: TaskMessage | None, error: BaseException) -> None:
    """Log a lost task as Celery's master does. A task's own request logs it itself."""
    if isinstance(error, TimeLimitExceeded) and message is not None:
        logger.error("Hard time limit (%ss) exceeded for %s", error.args[0], message.label)
    else:
        logger.error("Task handler raised error: %r", error)


def is_counted(message: TaskMessage, delivery: Delivery) -> bool:
    """Whether a message may be a part of a chord.

    Reads headers and the body's end; decodes nothing.
    """
    return bool(message.group) and not delivery.body.endswith(_NOTHING_FOLLOWS)


def count(
    chords: Chords, task: Task | None, message: TaskMessage, context: Context, error: BaseException
) -> None:  # fmt: skip
    """Count a revoked part of a chord, so that the chord fails."""
    if task is None:
        _close(chords.failed(message, error, states.REVOKED))
        return
    token = current.push(task, context)
    try:
        _close(chords.failed(message, error, states.REVOKED))
    finally:
        current.pop(token)


def announce(
    app: Turbo, chords: Chords | None, task: Task, message: TaskMessage, context: Context, einfo: ExceptionInfo
) -> None:
    """Count a chord's part, send error callbacks, call handlers and receivers.

    Exceptions from any of them are logged.
    """
    error = einfo.exception
    args, kwargs = message.args, message.kwargs
    token = current.push(task, context)
    try:
        if chords is not None:
            _close(chords.failed(message, error))
        try:
            followups.after_failure(app, message.errbacks, context, error, einfo.traceback)
        except (TurboError, TypeError, ValueError) as failure:
            logger.exception("Error callbacks of %s could not be sent: %s", message.label, failure)
        _call(task.on_failure, error, message.id, args, kwargs, einfo)
        _call(task.after_return, states.FAILURE, error, message.id, args, kwargs, None)
        signals.task_failure.send(
            sender=task,
            task_id=message.id,
            exception=error,
            args=args,
            kwargs=kwargs,
            traceback=error.__traceback__,
            einfo=einfo,
        )
    finally:
        current.pop(token)


def has_retry_hooks(task: Task) -> bool:
    """Whether any hook runs when this task is tried again."""
    return bool(signals.task_retry.receivers) or type(task).on_retry is not Handlers.on_retry


def announce_retry(task: Task, message: TaskMessage, context: Context, reason: Retry) -> None:
    """Call ``on_retry`` and send ``task_retry``, with the lost attempt as the request."""
    einfo = ExceptionInfo(reason.exc or reason)
    token = current.push(task, context)
    try:
        _call(task.on_retry, reason.exc, message.id, message.args, message.kwargs, einfo)
        signals.task_retry.send(sender=task, request=context, reason=reason, einfo=einfo)
    finally:
        current.pop(token)


def chain_failures(
    failure_documents: FailureDocuments, message: TaskMessage, error: BaseException
) -> list[StoreRequest]:
    """Return FAILURE documents for a chain's later steps, which will never run."""
    found = []
    for signature in followups.steps_left(message.chain):
        document = failure_documents.step_failure(signature.get("options") or {}, message, error)
        if document is not None:
            found.append(document)
    return found


def _close(left: list[Close]) -> None:
    """Make the calls at once, confirmed when they return."""
    for close in left:
        close(True)


def _call(handler: Any, *args: Any) -> None:
    try:
        handler(*args)
    except Exception:
        logger.exception("Handler %s raised", getattr(handler, "__qualname__", handler))
