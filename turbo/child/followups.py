"""What a task's message says shall run after it: callbacks, the rest of a chain, error callbacks.

Runs in a child, between the body and the storing of its result, so that the result's ``children`` is complete.
Follow-ups are sent through the app, and so through the outcome ring and with a confirm. Groups and chords are
refused before the task runs (:func:`unsupported`): running a chord's part without counting it would hang the chord.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.exceptions import InvalidTaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.base import Turbo
    from turbo.protocol.message import TaskMessage

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


def after_failure(app: Turbo, message: TaskMessage) -> None:
    """Send the error callbacks, each with the id of the failed task."""
    for signature in message.errbacks or ():
        _send(app, signature, (message.id,))


def _send(app: Turbo, signature: Mapping[str, Any], first: tuple[Any, ...], **more: Any) -> None:
    name = signature.get("task")
    if not isinstance(name, str):
        raise InvalidTaskError("a follow-up signature names no task")
    args = tuple(signature.get("args") or ())
    if not signature.get("immutable"):
        args = first + args
    options = {_RENAMED.get(key, key): value for key, value in (signature.get("options") or {}).items()}
    task_id = options.pop("task_id", None)
    options.update(more)
    app.send_task(name, args, dict(signature.get("kwargs") or {}), task_id, **options)
