"""Validates the signatures in a message.

They are the calls in ``callbacks``, ``errbacks``, ``chain`` and ``chord``. Before it: the decoded body of a message.
After it: the code that publishes the calls after a task. Signatures are checked before the task's body runs, so that no
body runs whose follow-up cannot be sent. Pure. The format is that of Celery's Signature, which is a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from turbo.exceptions import InvalidTaskError


@dataclass(slots=True)
class WireSignature:
    """One call that has not been sent.

    ``subtask_type`` is None for a task, else chain, group, chord and so on.
    """

    task: str
    args: list[object] = field(default_factory=list)
    kwargs: dict[str, object] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    subtask_type: str | None = None
    immutable: bool = False
    #: All other keys, such as ``chord_size``; they are passed on unchanged.
    extra: dict[str, object] = field(default_factory=dict)


_KEYS = frozenset({"task", "args", "kwargs", "options", "subtask_type", "immutable"})


def parse_signature(value: object, where: str = "signature") -> WireSignature:
    """Validate one signature.

    Raises ``InvalidTaskError``, which calls the signature ``where``.
    """
    if not isinstance(value, Mapping):
        raise InvalidTaskError(f"{where} must be a mapping, not {type(value).__name__}")
    task = value.get("task")
    if not isinstance(task, str) or not task:
        raise InvalidTaskError(f"{where} does not name a task")
    args = value.get("args")
    kwargs = value.get("kwargs")
    options = value.get("options")
    kind = value.get("subtask_type")
    if args is not None and not isinstance(args, (list, tuple)):
        raise InvalidTaskError(f"args of {where} must be a list, not {type(args).__name__}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InvalidTaskError(f"kwargs of {where} must be a mapping, not {type(kwargs).__name__}")
    if options is not None and not isinstance(options, Mapping):
        raise InvalidTaskError(f"options of {where} must be a mapping, not {type(options).__name__}")
    if kind is not None and not isinstance(kind, str):
        raise InvalidTaskError(f"subtask_type of {where} must be text, not {type(kind).__name__}")
    return WireSignature(
        task,
        list(args or ()),
        dict(kwargs or {}),
        dict(options or {}),
        kind,
        bool(value.get("immutable")),
        {key: item for key, item in value.items() if key not in _KEYS},
    )


def parse_signatures(value: object, where: str) -> list[WireSignature]:
    """Validate a list of signatures; None is an empty list.

    Raises ``InvalidTaskError``, which names the bad one.
    """
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise InvalidTaskError(f"{where} must be a list, not {type(value).__name__}")
    return [parse_signature(item, f"{where}[{index}]") for index, item in enumerate(value)]


def to_wire(signature: WireSignature) -> dict[str, object]:
    """Return the mapping for a message, with Celery's keys in Celery's order."""
    return {
        "task": signature.task,
        "args": signature.args,
        "kwargs": signature.kwargs,
        "options": signature.options,
        "subtask_type": signature.subtask_type,
        "immutable": signature.immutable,
        **signature.extra,
    }
