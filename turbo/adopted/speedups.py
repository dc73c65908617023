"""Replaces small parts of Celery's tracer by faster ones, in this process.

Runs in a child, called by ``adopted.process`` before the first task and before any tracer is built. They are functions
of Celery's that are called for every task and whose result mostly depends on little. They must never return anything
else than Celery's own. What is not Celery's own function any more, because a program has replaced it, stays as it is.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, Final

from celery.app import task, trace
from celery.app.task import Context
from celery.utils import saferepr as texts
from celery.utils import threads

#: The most cached sets of header names; a worker sees about one per task and queue.
_MOST: Final = 256
#: The least limit of characters within which every value below is shown in full.
_LEAST: Final = 32
#: Integers with fewer digits than that.
_LARGE: Final = 10**30
_ABSENT: Final = object()
_NOTHING: Final[dict[str, Any]] = {}


def install() -> None:
    """Replace them. Call it once in a process."""
    _show_small_values_at_once()
    _fill_contexts_at_once()
    _push_and_pop_at_once()


def _is_celerys(function: object, module: Any) -> bool:
    return isinstance(function, FunctionType) and function.__code__.co_filename == module.__file__


def _show_small_values_at_once() -> None:
    """Make the text of None, a truth value or a number without Celery's tokens."""
    original = trace.saferepr
    if not _is_celerys(original, texts):
        return

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
    first, update, original = Context.__init__, Context.update, Context._get_custom_headers
    if not all(_is_celerys(function, task) for function in (first, update, original)):
        return
    # From Celery 5.7 on a request has its limits also by name.
    limits_by_name = "time_limit" in vars(Context(timelimit=None))
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    attributes = len(Context.__dict__)

    def custom_headers(self: Context, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        return found_in(self, dict(*args, **kwargs))

    def found_in(context: Context, fields: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal attributes
        names = tuple(fields)
        custom = known.get(names)
        # An attribute that a program adds to the class is not a header any more.
        if custom is None or len(Context.__dict__) != attributes:
            if len(known) >= _MOST or len(Context.__dict__) != attributes:
                known.clear()
                attributes = len(Context.__dict__)
            custom = known[names] = tuple(original(context, fields) or ())
        return {name: fields[name] for name in custom} if custom else None

    def initialise(self: Context, *args: Any, **kwargs: Any) -> None:
        if type(self) is not Context or Context.update is not update:
            first(self, *args, **kwargs)
            return
        fields = self.__dict__
        fields.update(*args, **kwargs)
        custom = found_in(self, fields) if self.headers is None else _ABSENT
        limits: Any = fields.get("timelimit", _ABSENT) if limits_by_name else _ABSENT
        if limits is not _ABSENT:
            pair = isinstance(limits, list | tuple) and len(limits) >= 2
            fields["time_limit"], fields["soft_time_limit"] = limits[:2] if pair else (None, None)
        if custom is not _ABSENT:
            fields["headers"] = custom

    Context.__init__ = initialise
    Context._get_custom_headers = custom_headers


def _push_and_pop_at_once() -> None:
    """Reach the stacks of tasks and requests without lookups that fail first.

    A task enters one stack of each kind. Celery keeps a thread's stack as an attribute of an object that has none of
    its own, and removes it with its last item.
    """
    kind = threads.LocalStack
    push, pop, top = (vars(kind).get(name) for name in ("push", "pop", "top"))
    if not all(_is_celerys(function, threads) for function in (push, pop, getattr(top, "fget", None))):
        return
    if set(vars(threads.Local).get("__slots__", ())) != {"__storage__", "__ident_func__"}:
        return

    def push_first(self: Any, item: Any) -> Any:
        local = self._local
        thread = local.__ident_func__()
        if thread in local.__storage__:
            return push(self, item)
        stack = [item]
        local.__storage__[thread] = {"stack": stack}
        return stack

    def pop_last(self: Any) -> Any:
        local = self._local
        thread = local.__ident_func__()
        stack = local.__storage__.get(thread, _NOTHING).get("stack")
        if stack is None or len(stack) != 1:
            return pop(self)
        del local.__storage__[thread]
        return stack[0]

    def look_at_top(self: Any) -> Any:
        local = self._local
        stack = local.__storage__.get(local.__ident_func__(), _NOTHING).get("stack")
        return stack[-1] if stack else None

    kind.push, kind.pop, kind.top = push_first, pop_last, property(look_at_top)
