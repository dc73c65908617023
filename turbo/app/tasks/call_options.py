"""Checks the arguments of a call and turns its options into message fields.

Called between ``app.task`` (the program's call) and ``app.publish.sending`` (which sends it). Pure: no I/O, no clock,
no app.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from turbo.app.canvas.call_form import plain
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from turbo.app.interfaces import TaskLike

#: The lowest countdown in seconds that is accepted. Celery has the same bound.
LEAST_SECONDS = -2147483648
#: The highest: a time must stay before the year 10000.
MOST_SECONDS = 200_000_000_000

#: Options of a call that are fields of its message under the same name.
_FIELDS = (
    "time_limit",
    "soft_time_limit",
    "group_id",
    "group_index",
    "root_id",
    "parent_id",
    "chain",
    "chord",
    "shadow",
    "argsrepr",
    "kwargsrepr",
    "stamped_headers",
    "headers",
    "priority",
)


def argument_check(fun: Callable[..., Any], bound: bool) -> Callable[..., object] | None:
    """Return an empty function with the parameters of ``fun``.

    Calling it with wrong arguments raises TypeError. ``bound`` omits the first parameter, which is the task.
    Compared with ``inspect.Signature.bind``, a real function costs more to build once and fifty times less on every
    call. Defaults and annotations are replaced, so no code of the program is evaluated. Returns None for a callable
    without a readable signature.
    """
    try:
        signature = inspect.signature(fun, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if (
        bound
        and parameters
        and parameters[0].kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ):
        parameters = parameters[1:]
    bare = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else _Default()) for p in parameters]
    head = str(inspect.Signature(bare))
    name = getattr(fun, "__name__", type(fun).__name__)
    if not name.isidentifier():
        name = "task"
    namespace: dict[str, Any] = {}
    # The source text contains only parameter names of an existing function and ``None``.
    exec(f"def {name}{head}: pass", namespace)
    check: Callable[..., object] = namespace[name]
    return check


class _Default:
    """Replaces every default in the text of a signature."""

    def __repr__(self) -> str:
        return "None"


def adapt_arguments(fun: Callable[..., Any], args: Any, kwargs: Any, old_args: Any, old_kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a retry that replaces only ``args`` or only ``kwargs``.

    None means unchanged. Old arguments are kept unless a new one sets the same parameter.
    """
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return args, kwargs
    both = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if args is not None and kwargs is None and old_kwargs:
        positional = [p for p in signature.parameters.values() if p.kind in (inspect.Parameter.POSITIONAL_ONLY, both)]
        replaced = {p.name for p in positional[: len(args)] if p.kind is both}
        return args, {k: v for k, v in old_kwargs.items() if k not in replaced}
    if kwargs is not None and args is None and old_args:
        try:
            bound = signature.bind_partial(*old_args)
        except TypeError:
            return args, kwargs
        kept = dict(kwargs)
        for name in list(kept):
            if name in bound.arguments and signature.parameters[name].kind is both:
                bound.arguments[name] = kept.pop(name)
        return bound.args, {**bound.kwargs, **kept}
    return args, kwargs


def check_arguments(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return ``args`` and ``kwargs`` for a message, with defaults for None.

    Raises TypeError when ``args`` is not a list or tuple, or ``kwargs`` not a mapping.
    """
    args = args or ()
    kwargs = kwargs or {}
    if not isinstance(args, (list, tuple)):
        raise TypeError("task args must be a list or tuple")
    if not isinstance(kwargs, Mapping):
        raise TypeError("task keyword arguments must be a mapping")
    return args, kwargs


def check_seconds(seconds: float, what: str) -> float:
    """Return ``seconds``.

    Raises ValueError below ``LEAST_SECONDS``, above ``MOST_SECONDS`` and for NaN; ``what`` names the option.
    """
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise ValueError(f"{what} is out of range: {seconds!r}")
    return seconds


def as_time(value: Any, now: datetime, what: str) -> datetime | str | None:
    """Convert seconds from ``now`` to a datetime.

    Returns datetimes, texts and None unchanged ("" as None). ``what`` names the option in the TypeError for any
    other type.
    """
    if isinstance(value, (int, float)):
        return now + timedelta(seconds=check_seconds(value, what))
    if value is None or isinstance(value, (datetime, str)):
        return value or None
    raise TypeError(f"{what} must be a number, a datetime or a text, not {type(value).__name__}")


def seconds_until(value: datetime | str, now: datetime) -> float:
    """Return the seconds from ``now`` to ``value`` (a datetime or ISO 8601 text).

    A naive time is in ``now``'s zone.
    """
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    if when.tzinfo is None:
        when = when.replace(tzinfo=now.tzinfo)
    return (when - now).total_seconds()


def message_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message fields that options of the call set.

    They are keyword arguments of ``protocol.message.build``.
    """
    get = options.get
    stamped = get("stamped_headers")
    fields = {name: options[name] for name in _FIELDS if name in options}
    for name in ("chain", "chord"):
        if fields.get(name):
            fields[name] = plain(fields[name])
    for name in ("group_id", "root_id", "parent_id"):
        if fields.get(name):
            fields[name] = text_id(fields[name])
    fields["retries"] = get("retries") or 0
    fields["replaced_task_nesting"] = get("replaced_task_nesting") or 0
    fields["callbacks"] = _links(get("link"))
    fields["errbacks"] = _links(get("link_error"))
    fields["stamps"] = {name: get(name) for name in stamped} if stamped else None
    return fields


def listed(value: Any) -> list[Any] | None:
    """Return a collection's items as a list, another value in one; None stays."""
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _links(value: Any) -> list[Any] | None:
    found = listed(value)
    return [plain(each) for each in found] if found else found


def accepts_exception(task: TaskLike, signature: Mapping[str, Any]) -> bool:
    """Return whether an error callback accepts more arguments than a task id.

    Always False for a bound task, because it may call ``self.retry`` and so must run as a task of its own.
    """
    check = task.__header__
    if check is None or inspect.ismethod(task.run):
        return False
    given = len(signature.get("args") or ())
    named = signature.get("kwargs") or {}
    room = 0
    for parameter in inspect.signature(check).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return True
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            room += parameter.name not in named
    return room - given > 1
