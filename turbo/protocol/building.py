"""Task messages of protocol 2, as a producer makes them.

Place: between ``app.sending`` and the publisher. Headers come in the order in which Celery's producers write them,
because the master's peek relies on it. Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from turbo.protocol.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAX_REPR: Final = 1024
_LEVELS: Final = 3


def saferepr(value: object, maxlen: int = _MAX_REPR, maxlevels: int = _LEVELS) -> str:
    """A repr of bounded length and depth that never raises, for logs and ``argsrepr``."""
    text = _repr(value, maxlevels, maxlen)
    return text if len(text) <= maxlen else text[: max(0, maxlen - 3)] + "..."


def _repr(value: object, levels: int, room: int) -> str:
    kind = type(value)
    if kind in (list, tuple, dict, set, frozenset):
        if not value:
            return repr(value)
        if levels <= 0:
            return "..."
        return _container(value, kind, levels, room)
    if kind is str and len(value) > room:  # type: ignore[arg-type]
        return repr(value[:room]) + "..."  # type: ignore[index]
    if kind is bytes and len(value) > room:  # type: ignore[arg-type]
        return repr(value[:room]) + "..."  # type: ignore[index]
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything, and the text says so
        return f"<{kind.__name__} whose repr raised {type(error).__name__}>"


def _container(value: Any, kind: type, levels: int, room: int) -> str:
    parts: list[str] = []
    used = 0
    pairs = value.items() if kind is dict else ((None, item) for item in value)
    for key, item in pairs:
        text = _repr(item, levels - 1, room - used)
        if kind is dict:
            text = f"{_repr(key, levels - 1, room - used)}: {text}"
        parts.append(text)
        used += len(text) + 2
        if used > room:
            parts.append("...")
            break
    inside = ", ".join(parts)
    if kind is list:
        return f"[{inside}]"
    if kind is tuple:
        return f"({inside},)" if len(parts) == 1 else f"({inside})"
    if kind is frozenset:
        return f"frozenset({{{inside}}})"
    return f"{{{inside}}}"


def _iso(value: datetime | str | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else value


def build(
    task_id: str,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
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
    origin: str | None = None,
    reply_to: str | None = None,
    ignore_result: bool | None = False,
    replaced_task_nesting: int = 0,
    stamped_headers: Sequence[str] | None = None,
    stamps: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    priority: int | None = None,
    delivery_mode: int = 2,
    repr_levels: int = _LEVELS,
) -> tuple[dict[str, Any], list[Any], Properties]:
    """Return (headers, body, properties) of one call; content type and encoding are the serializer's to fill in.

    Times are aware datetimes or ISO 8601 text; ``expiration`` is the message's time to live in milliseconds, as
    text. Limits are in seconds and travel hard first.
    """
    table: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": shadow,
        "eta": _iso(eta),
        "expires": _iso(expires),
        "group": group_id,
        "group_index": group_index,
        "retries": retries,
        "timelimit": [time_limit, soft_time_limit],
        "root_id": root_id or task_id,
        "parent_id": parent_id,
        "argsrepr": saferepr(tuple(args), maxlevels=repr_levels) if argsrepr is None else argsrepr,
        "kwargsrepr": saferepr(dict(kwargs), maxlevels=repr_levels) if kwargsrepr is None else kwargsrepr,
        "origin": origin,
        "ignore_result": ignore_result,
        "replaced_task_nesting": replaced_task_nesting,
        "stamped_headers": list(stamped_headers) if stamped_headers else None,
        "stamps": dict(stamps) if stamps else {},
    }
    if headers:
        table.update(headers)
    body = [args, kwargs, {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord}]
    properties = Properties(
        correlation_id=task_id,
        reply_to=reply_to or "",
        delivery_mode=delivery_mode,
        priority=0 if priority is None else priority,
        expiration=expiration,
    )
    return table, body, properties
