"""Replaces two small parts of Celery's tracer by faster ones, in this process.

Runs in a child, called by ``adopted.process`` before the first task. Both are functions of Celery's that are called for
every task and whose result mostly depends on little. They must never return anything else than Celery's own.
"""

from __future__ import annotations

from typing import Any, Final

from celery.app import trace
from celery.app.task import Context

#: The most cached sets of header names; a worker sees about one per task and queue.
_MOST: Final = 256
#: The least limit of characters within which every value below is shown in full.
_LEAST: Final = 32
#: Integers with fewer digits than that.
_LARGE: Final = 10**30
_ABSENT: Final = object()


def install() -> None:
    """Replace them. Call it once in a process."""
    _show_small_values_at_once()
    _fill_contexts_at_once()


def _show_small_values_at_once() -> None:
    """Make the text of None, a truth value or a number without Celery's tokens."""
    original = trace.saferepr

    def saferepr(value: Any, maxlen: int | None = None, *args: Any, **kwargs: Any) -> Any:
        if maxlen is not None and maxlen >= _LEAST:
            if value is None:
                return "None"
            kind = type(value)
            if kind is bool or kind is float or (kind is int and -_LARGE < value < _LARGE):
                return str(value)
        return original(value, maxlen, *args, **kwargs)

    trace.saferepr = saferepr


def _fill_contexts_at_once() -> None:
    """Build a request without copying its fields.

    To see which of them are the caller's own headers costs a fifth of tracing an empty task. It depends on the names
    alone, so it is computed once for each set of names.
    """
    original = Context._get_custom_headers
    known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def custom_headers(self: Context, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        return found_in(self, dict(*args, **kwargs))

    def found_in(context: Context, fields: dict[str, Any]) -> dict[str, Any] | None:
        names = tuple(fields)
        custom = known.get(names)
        if custom is None:
            if len(known) >= _MOST:
                known.clear()
            custom = known[names] = tuple(original(context, fields) or ())
        return {name: fields[name] for name in custom} if custom else None

    def initialise(self: Context, *args: Any, **kwargs: Any) -> None:
        if type(self) is not Context:
            first(self, *args, **kwargs)
            return
        fields = self.__dict__
        fields.update(*args, **kwargs)
        custom = found_in(self, fields) if fields.get("headers") is None else _ABSENT
        limits = fields.get("timelimit", _ABSENT)
        if limits is not _ABSENT:
            pair = isinstance(limits, list | tuple) and len(limits) >= 2
            fields["time_limit"], fields["soft_time_limit"] = limits[:2] if pair else (None, None)
        if custom is not _ABSENT:
            fields["headers"] = custom

    first = Context.__init__
    Context.__init__ = initialise
    Context._get_custom_headers = custom_headers
