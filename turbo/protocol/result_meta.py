"""Builds result documents: what a store holds, and an rpc reply says.

Before it: a task's outcome. After it: ``backends``. Runs in children, in the master for outcomes that it decides, and
in clients that set states. Pure. Keys and their order are Celery's; readers depend only on the keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.protocol.tagged_json import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Handle:
    """The base of result objects, which a program holds for what it sent."""

    def as_tuple(self) -> tuple[Any, Any]:
        """Return the form of the handle in messages and documents."""
        raise NotImplementedError


def stored_form(value: object, serializer: str) -> object:
    """Return ``value`` as a document holds it: a handle becomes a tuple, as in Celery.

    Pickle stores handles as they are.
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

    ``result`` is a value, or the document of ``faults.to_wire`` for states with an exception. ``date_done`` is ISO 8601
    text, for final states only. ``children`` are results as tuples. ``extended`` holds the fields that
    ``result_extended`` adds: name, args, kwargs, worker, retries, queue, stamps.
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
    """Return the fields of ``result_extended`` from a message or request.

    ``arguments`` is False where the arguments are not decoded.
    """
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
    """Encode a document as JSON.

    Raises ``EncodeError`` if the task returned a value that JSON cannot represent.
    """
    return dumps(meta)
