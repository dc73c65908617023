"""Result documents: what a store keeps of a task, and what an rpc reply says.

Before it: a task's outcome. After it: ``backends``. Pure; runs in children, in the master for outcomes that it decides
itself, and in clients that set states. Keys and their order are Celery's; readers go by the keys alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.protocol.tagged_json import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Handle:
    """What a program holds of a call or group that was sent. Handles on results derive from it."""

    def as_tuple(self) -> tuple[Any, Any]:
        """The form in which it travels in messages and documents."""
        raise NotImplementedError


def stored_form(value: object, serializer: str) -> object:
    """Return ``value`` as a document holds it: the handle of a call or group in its own form, as Celery stores it.

    Pickle carries handles as they are.
    """
    return value.as_tuple() if isinstance(value, Handle) and serializer != "pickle" else value


def build_meta(
    task_id: str,
    state: str,
    result: Any,
    traceback: str | None,
    *,
    children: Sequence[object] = (),
    date_done: str | None = None,
    group_id: str | None = None,
    parent_id: str | None = None,
    extended: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Build a document.

    ``result`` is a value, or for states with an exception what ``faults.to_wire`` returns. ``date_done`` is ISO 8601
    text, given for final states only. ``children`` are results as tuples. ``extended`` holds what ``result_extended``
    adds: name, args, kwargs, worker, retries, queue, stamps.
    """
    meta: dict[str, Any] = {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": children if type(children) is list else list(children),
        "date_done": date_done,
    }
    if group_id:
        meta["group_id"] = group_id
    if parent_id:
        meta["parent_id"] = parent_id
    if extended:
        meta.update(extended)
    meta["task_id"] = task_id
    return meta


def extended(source: Any, worker: str, queue: str | None, *, arguments: bool = True) -> dict[str, object]:
    """What ``result_extended`` adds, from a message or a request; without the arguments where they are not decoded."""
    fields: dict[str, object] = {
        "name": source.task,
        "args": source.args if arguments else None,
        "kwargs": source.kwargs if arguments else None,
        "worker": worker,
        "retries": source.retries,
        "queue": queue,
    }
    if source.stamps:
        names = source.stamped_headers or ()
        fields["stamped_headers"] = source.stamped_headers
        fields.update((name, value) for name, value in source.stamps.items() if name in names)
    return fields


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """Encode a document as JSON. Raises ``EncodeError`` when the task returned what JSON cannot carry."""
    return dumps(meta)
