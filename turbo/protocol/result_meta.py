"""The document that a result store keeps for a task, byte-compatible with what Celery's clients read.

Place: built by the child for what it lived to see, by the master for the rest; then ``backends`` moves the bytes.
Pure. Source of the format: documents that Celery 5.3 to 5.7 store, see docs/compatibility.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from turbo import states
from turbo.exceptions import EncodeError
from turbo.protocol import tagged_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PLAIN: Final = (type(None), bool)


def build_meta(
    task_id: str,
    state: str,
    result: object,
    traceback: str | None,
    *,
    children: Sequence[object] = (),
    date_done: str | None = None,
    group_id: str | None = None,
    parent_id: str | None = None,
    extended: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The document of one state. ``date_done`` is ISO 8601 and belongs to final states only."""
    meta: dict[str, Any] = {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": list(children),
        "date_done": date_done if state in states.READY_STATES else None,
    }
    if group_id:
        meta["group_id"] = group_id
    if parent_id:
        meta["parent_id"] = parent_id
    if extended:
        meta.update(extended)
    meta["task_id"] = task_id
    return meta


def encode_meta(meta: Mapping[str, object]) -> bytes:
    """Encode a document as JSON. Raises EncodeError when its result cannot be carried."""
    return tagged_json.dumps(meta)


def encode_success(
    task_id: str, result: object, date_done: str, group_id: str | None = None, parent_id: str | None = None
) -> bytes:
    """Build and encode the document of a task that returned and has no children: the hot path.

    Raises EncodeError when the result cannot be carried.
    """
    meta: dict[str, Any] = {
        "status": "SUCCESS",
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": date_done,
    }
    if group_id:
        meta["group_id"] = group_id
    if parent_id:
        meta["parent_id"] = parent_id
    meta["task_id"] = task_id
    if type(result) in _PLAIN:
        try:
            return orjson.dumps(meta)
        except TypeError as error:  # an id that is no UTF-8
            raise EncodeError(str(error)) from error
    return tagged_json.dumps(meta)
