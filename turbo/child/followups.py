"""What a task's message says shall run after it: callbacks, the rest of a chain, error callbacks.

Runs in a child, between the body and the storing of its result, so that the result's ``children`` is complete.
Follow-ups are sent through the app, and so through the outcome ring and with a confirm. Error callbacks that take
more than an id are called here. Groups and chords are
refused before the task runs (:func:`unsupported`): running a chord's part without counting it would hang the chord.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from turbo.app.calling import takes_the_exception
from turbo.exceptions import InvalidTaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.base import Turbo
    from turbo.app.context import Context
    from turbo.protocol.message import TaskMessage

logger = logging.getLogger("celery.app.trace")

_COMPOSITES = frozenset({"group", "chord", "chain", "xmap", "xstarmap", "chunks"})
#: Options of a signature that ``send_task`` names otherwise, or derives itself.
_RENAMED = {"group": "group_id"}


def unsupported(message: TaskMessage) -> str | None:
    """Name what the message asks for that this worker cannot carry on yet, or None."""
    if message.chord is not None:
        return "it is part of a chord"
    for where, signatures in (
        ("a callback", message.callbacks),
        ("an error callback", message.errbacks),
        ("the next step of its chain", message.chain),
    ):
        for signature in signatures or ():
            kind = signature.get("subtask_type")
            if kind in _COMPOSITES:
                return f"{where} is a {kind}"
            if signature.get("chord") or (signature.get("options") or {}).get("chord"):
                return f"{where} is part of a chord"
    return None


def after_success(app: Turbo, message: TaskMessage, result: object) -> None:
    """Send the callbacks, then the next step of the chain, each with the result put before its arguments."""
    for signature in message.callbacks or ():
        _send(app, signature, (result,))
    if message.chain:
        # The chain travels reversed: its last element runs next and takes the rest along.
        rest = list(message.chain)
        following = rest.pop()
        _send(app, following, (result,), chain=rest or None)


def after_failure(app: Turbo, message: TaskMessage, request: Context, error: BaseException, trace: str) -> None:
    """Run the error callbacks, in either of Celery's two styles.

    A task of this app that takes more than one argument is called here with the request, the exception and its
    traceback; any other is sent, with the failed task's id. What a called one raises is logged.
    """
    for signature in message.errbacks or ():
        task = app.registered(_name(signature))
        if task is None or not takes_the_exception(task, signature):
            _send(app, signature, (message.id,), add_to_parent=False)
            continue
        try:
            task(*_args(signature, (request, error, trace)), **(signature.get("kwargs") or {}))
        except Exception:
            logger.exception("Error callback %s of %s raised", task.name, message.label)


def _name(signature: Mapping[str, Any]) -> str:
    name = signature.get("task")
    if not isinstance(name, str):
        raise InvalidTaskError("a follow-up signature names no task")
    return name


def _args(signature: Mapping[str, Any], first: tuple[Any, ...]) -> tuple[Any, ...]:
    args = tuple(signature.get("args") or ())
    return args if signature.get("immutable") else first + args


def _send(app: Turbo, signature: Mapping[str, Any], first: tuple[Any, ...], **more: Any) -> None:
    name = _name(signature)
    args = _args(signature, first)
    options = {_RENAMED.get(key, key): value for key, value in (signature.get("options") or {}).items()}
    task_id = options.pop("task_id", None)
    options.update(more)
    # Not by name alone: a task that is known here says in the message whether its result is ignored.
    app.sending.send(name, args, dict(signature.get("kwargs") or {}), task_id, app.registered(name), options)
