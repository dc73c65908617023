"""Sends what runs after a task: callbacks, its chain, error callbacks.

Runs in a child, between the body and the storing of its result, so that the result's ``children`` is complete. For
tasks that ended with their child it runs in the master, on its hook thread. Follow-ups are sent through the app: from a
child through the outcome ring and with a confirm. Error callbacks that take more than an id are called here. Chains,
groups and chords among them are sent by ``turbo.canvas``, all others at once in the form in which they travelled. It
must never store a result.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from turbo.app.tasks.call_options import accepts_exception
from turbo.canvas import Signature, group, maybe_signature
from turbo.exceptions import InvalidTaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from turbo.app.base import Turbo
    from turbo.app.tasks.context import Context
    from turbo.protocol.message import TaskMessage
    from turbo.result.group_result import GroupResult

logger = logging.getLogger("celery.app.trace")

#: Options of a signature that ``send_task`` knows by another name.
_RENAMED = {"group": "group_id"}


def after_success(app: Turbo, message: TaskMessage, result: object) -> None:
    """Send the callbacks, then the next step of the chain.

    Each gets the result before its own arguments. Several callbacks are sent as one group and have its id; callbacks
    that are groups are sent separately.
    """
    callbacks = message.callbacks
    if callbacks:
        if len(callbacks) == 1:
            send(app, callbacks[0], (result,))
        else:
            groups = [signature for signature in callbacks if signature.get("subtask_type") == "group"]
            for signature in groups:
                send(app, signature, (result,))
            _send_together(app, [signature for signature in callbacks if signature not in groups], (result,))
    if message.chain:
        # A chain is stored in reverse: its last element runs next and carries the rest.
        rest = list(message.chain)
        following = rest.pop()
        send(app, following, (result,), chain=rest or None)


def after_failure(
    app: Turbo,
    errbacks: Iterable[Mapping[str, Any]] | None,
    request: Context,
    error: BaseException,
    trace: str | None,
) -> GroupResult | None:
    """Run the failed ``request``'s error callbacks, in either style of Celery.

    A task of this app that takes more than one argument is called here with the request, the exception and its
    traceback; its exceptions are logged. The others are sent as a group, with the failed task's id. Returns the handle
    of the group, None if none was sent.
    """
    sent = []
    for signature in errbacks or ():
        task = app.registered(_name(signature))
        if task is None or signature.get("subtask_type") or not accepts_exception(task, signature):
            sent.append(signature)
            continue
        try:
            task(*_args(signature, (request, error, trace)), **(signature.get("kwargs") or {}))
        except Exception:
            logger.exception("Error callback %s of %s raised", task.name, request.id)
    family = {"parent_id": request.id, "root_id": request.root_id or request.id}
    return _send_together(app, sent, (request.id,), add_to_parent=False, **family)


def steps_left(chain: Iterable[Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield a chain's later steps, which never run, so their results can fail.

    A chord ends when its body ends, so its body is among them.
    """
    left = deque(chain or ())
    while left:
        step = left.popleft()
        yield step
        body = (step.get("kwargs") or {}).get("body") if step.get("subtask_type") == "chord" else None
        if isinstance(body, dict):
            left.append(body)


def send(app: Turbo, signature: Mapping[str, Any], first: tuple[Any, ...], **more: Any) -> None:
    """Send one call with ``first`` before its arguments.

    ``more`` are options over its own.
    """
    if signature.get("subtask_type"):
        maybe_signature(dict(signature), app=app).apply_async(first, **more)
        return
    name = _name(signature)
    args = _args(signature, first)
    options = {_RENAMED.get(key, key): value for key, value in (signature.get("options") or {}).items()}
    task_id = options.pop("task_id", None)
    # Pass the task, not its name alone: the message then says whether its result is ignored.
    task, kwargs = app.registered(name), dict(signature.get("kwargs") or {})
    if app.sends_itself if task is None else task.sends_itself:
        Signature(task or name, args, kwargs, {**options, "task_id": task_id}, app=app).apply_async(**more)
        return
    options.update(more)
    app.sending.send(name, args, kwargs, task_id, task, options)


def _send_together(
    app: Turbo, signatures: list[Mapping[str, Any]], first: tuple[Any, ...], **more: Any
) -> GroupResult | None:
    if not signatures:
        return None
    members = [maybe_signature(dict(each), app=app) for each in signatures]
    sent: GroupResult = group(members, app=app).apply_async(first, **more)
    return sent


def _name(signature: Mapping[str, Any]) -> str:
    name = signature.get("task")
    if not isinstance(name, str):
        raise InvalidTaskError("a follow-up signature names no task")
    return name


def _args(signature: Mapping[str, Any], first: tuple[Any, ...]) -> tuple[Any, ...]:
    args = tuple(signature.get("args") or ())
    return args if signature.get("immutable") else first + args
