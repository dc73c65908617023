"""Builds a call's headers, body and properties in protocol 2.

Celery's producers write the same.

Before it: the merged options of a call (``app.publish.sending``), or a child that sends a task again. After it:
``content`` encodes the body, ``properties`` the rest. Pure: ids, times and the origin are arguments. Order and values
of the headers are Celery's, on which the worker's fast paths and other tools rely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turbo.protocol.properties import Properties
from turbo.protocol.saferepr import saferepr

if TYPE_CHECKING:
    from datetime import datetime

#: Body of a task message: positional arguments, keyword arguments, follow-up calls.
Body = tuple[Sequence[Any], Mapping[str, Any], dict[str, Any]]


# hot: bench/protocol.py, once a message published; one parameter for each header that Celery has
def build(
    task_id: str,
    name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    eta: datetime | str | None = None,
    expires: datetime | str | None = None,
    expiration: str | None = None,
    retries: int = 0,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    group_id: str | None = None,
    group_index: int | None = None,
    root_id: str | None = None,
    parent_id: str | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    chord: Any = None,
    shadow: str | None = None,
    argsrepr: str | None = None,
    kwargsrepr: str | None = None,
    origin: str = "",
    reply_to: str | None = None,
    correlation_id: str | None = None,
    ignore_result: bool | None = None,
    replaced_task_nesting: int = 0,
    stamped_headers: Sequence[str] | None = None,
    stamps: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    priority: int | None = None,
    delivery_mode: int = 2,
    repr_size: int = 1024,
    repr_levels: int = 3,
) -> tuple[dict[str, Any], Body, Properties]:
    """Return headers, body (not encoded) and properties of one task message.

    Times are datetimes or ISO 8601 text; ``expiration`` is the broker's time to live in milliseconds, as text; limits
    are in seconds. ``headers`` are the caller's own and come last, so they may replace any other. The properties have
    no headers and no content type yet: encoding the body determines those. Raises ``TypeError`` if args is not a list
    or tuple, or kwargs not a mapping.
    """
    args = args if args is not None else ()
    kwargs = kwargs if kwargs is not None else {}
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"args of a task must be a list or tuple, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs of a task must be a mapping, not {type(kwargs).__name__}")
    all_headers: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": shadow,
        "eta": eta if eta is None else _iso(eta),
        "expires": expires if expires is None else _iso(expires),
        "group": group_id,
        "group_index": group_index,
        "retries": retries,
        "timelimit": [time_limit, soft_time_limit],
        "root_id": root_id or task_id,
        "parent_id": parent_id,
        "argsrepr": saferepr(args, repr_size, repr_levels) if argsrepr is None else argsrepr,
        "kwargsrepr": saferepr(kwargs, repr_size, repr_levels) if kwargsrepr is None else kwargsrepr,
        "origin": origin,
        "ignore_result": ignore_result,
        "replaced_task_nesting": replaced_task_nesting,
        "stamped_headers": stamped_headers,
        "stamps": stamps or {},
    }
    if headers:
        all_headers.update(headers)
    body = (args, kwargs, {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord})
    props = Properties(
        delivery_mode=delivery_mode,
        priority=priority or 0,
        correlation_id=correlation_id or task_id,
        reply_to=reply_to or "",
        expiration=expiration,
    )
    return all_headers, body, props


def _iso(when: datetime | str) -> str | None:
    return (when or None) if isinstance(when, str) else when.isoformat()
