"""Builds a task's tracer: Celery's own, with a body that a soft limit interrupts.

Runs in a child, called by ``adopted.process`` for every task before the first message, and by ``adopted.executor`` for
tasks that are registered later. The executor calls the tracer once per message. It must never change what the tracer
does, nor leave a frame of turbo's in a traceback.

The soft limit is raised in the body alone. Celery raises it wherever the signal finds the process, also in its own
bookkeeping around the body, which that breaks. Here a tracer is built around a ``run`` that arms the limit for the call
of the body only (``child.time_limits`` explains why that is enough). A task class with a ``__call__`` of its own is
called as a whole, so there the limit is armed for that call.

A worker replaces ``Task.__call__`` by a function that distinguishes the tracer's call from others, for classes that
override ``__call__`` and call ``super()``. Celery's tracer then takes every task for such a class and calls that
replacement. Tasks that do not override it are traced here without the replacement: their ``run`` is called. What the
replacement would note on the request of such a task, :data:`ENTERED` notes.

Tasks that are coroutines get their tracer from ``adopted.coroutine_tracing``.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final

from celery.app import trace
from celery.app.task import Task

from turbo.adopted import coroutine_tracing
from turbo.adopted.own_frames import drop_own_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from turbo.child.time_limits import SoftLimit

#: The functions between Celery's tracer and the body.
_OURS: Final = frozenset({
    (__name__, "run"), ("turbo.child.time_limits", "call"), ("turbo.child.soft_limited_threads", "call"),
})  # fmt: skip
#: The attribute that marks a request once the next ``task()`` in it is a call by the body, not by the tracer.
ENTERED = "_protected"


def build_trace(app: Celery, task: Any, hostname: str, soft: SoftLimit) -> None:
    """Give the task the tracer that Celery's pool would give it.

    The soft limit may interrupt its body.
    """
    if coroutine_tracing.is_coroutine(task):
        with _without_replacement() if calls_run(task) else contextlib.nullcontext():
            task.__trace__ = coroutine_tracing.build(app, task, hostname)
        return
    if not calls_run(task):
        _build_around_call(app, task, hostname, soft)
        return
    own = task.__dict__.get("run")
    task.run = guarded(task.run, soft)
    try:
        with _without_replacement():
            task.__trace__ = trace.build_tracer(task.name, task, app.loader, hostname, app=app)
    finally:
        if own is None:
            del task.run
        else:
            task.run = own


def calls_run(task: Any) -> bool:
    """Whether ``task()`` only calls ``run``.

    Then no class or library but Celery's worker defines ``__call__``.
    """
    for kind in type(task).__mro__:
        if kind is Task:
            break
        if "__call__" in kind.__dict__:
            return False
    call = Task.__dict__["__call__"]
    return getattr(call, "__module__", None) == Task.__module__ or _is_replacement(call)


def _is_replacement(call: Any) -> bool:
    """Whether this is the worker's own ``__call__``.

    Compares globals: a wrapper may have copied its names.
    """
    return getattr(call, "__globals__", None) is vars(trace)


@contextlib.contextmanager
def _without_replacement() -> Iterator[None]:
    """Make ``Task.__call__`` look unreplaced to Celery's tracer.

    The tracer tests the function's module.
    """
    call = Task.__dict__["__call__"]
    module = call.__module__
    call.__module__ = Task.__module__
    try:
        yield
    finally:
        call.__module__ = module


def _build_around_call(app: Celery, task: Any, hostname: str, soft: SoftLimit) -> None:
    """Build a tracer that calls the task.

    Arm the limit around the class's own ``__call__``.
    """
    kind = type(task)
    if "__turbo_call__" not in kind.__dict__:
        kind.__turbo_call__ = kind.__call__
        kind.__call__ = _guarded_method(kind.__call__, soft)
    task.__trace__ = trace.build_tracer(task.name, task, app.loader, hostname, app=app)


def guarded(body: Callable[..., Any], soft: SoftLimit) -> Callable[..., Any]:
    """Wrap ``body`` so that the limit is armed for its call."""
    call = soft.call

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(soft.running, body, args, kwargs)
        except BaseException as error:
            drop_own_frames(error, _OURS)
            raise

    return functools.wraps(body)(run)


def _guarded_method(method: Callable[..., Any], soft: SoftLimit) -> Callable[..., Any]:
    """Wrap an unbound ``__call__`` to arm the limit for the tracer's call only."""
    call = soft.call

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if soft.armed or not soft.running:
                return method(self, *args, **kwargs)
            return call(soft.running, method, (self, *args), kwargs)
        except BaseException as error:
            drop_own_frames(error, _OURS)
            raise

    return functools.wraps(method)(run)
