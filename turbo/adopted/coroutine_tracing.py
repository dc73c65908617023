"""Celery's tracer for tasks whose body is a coroutine.

It is Celery's own code, with an await where it calls the body.

Runs in a child, called by ``adopted.tracing`` for each such task, and by ``adopted.executor`` for each message. Celery
has no tasks that are coroutines. Its tracer is one function, which calls the body in its middle, so it cannot be used
around an await. Here the source of the installed Celery is compiled once more, with that one call awaited: signals,
handlers, retries, canvas, results and log lines stay those of the installed version, and libraries that replace what
the tracer calls are called here too. A library that wraps ``build_tracer`` itself has no part in these tasks.

Two things make that right beside other coroutines of the same thread. Celery keeps the running task and its request on
stacks, one for each thread; here each coroutine has stacks of its own. And what the tracer does before and after the
body runs as outside of an event loop: receivers and result backends may use code that refuses to run on one, such as
Django's ORM. It must never await anything but the body.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from celery._state import _task_stack
from celery.app import base, trace

from turbo.adopted.own_frames import drop_own_frames
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from celery import Celery

#: The names in Celery's source: the function that builds a tracer, the tracer in it, the body that it calls.
_BUILD: Final = "build_tracer"
_TRACER: Final = "trace_task"
_BODY: Final = "fun"
#: The parameter that the compiled function has beside Celery's own: what to await in place of the body.
_CALL: Final = "_turbo_call"
#: The functions between Celery's tracer and the body.
_OURS: Final = frozenset({
    *((__name__, name) for name in ("_call_body", "_awaited", "_autoretry")),
    *(("turbo.child.soft_limited_coroutine", name) for name in ("__await__", "_drive")),
})  # fmt: skip


class TracedCoroutine:
    """One message whose body is a coroutine, while its tracer runs.

    Also the identity of its stacks.
    """

    __slots__ = ("ended", "limited", "loop", "task")

    def __init__(
        self,
        task: Any,
        limited: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]],
        ended: Callable[[], None],
    ) -> None:
        """``limited`` puts the soft limit around the body.

        ``ended`` is called when the body has returned.
        """
        self.task = task
        self.limited = limited
        self.ended = ended
        self.loop = asyncio.get_running_loop()

    async def outcome(self, *arguments: Any) -> Any:
        """Run the task's tracer with these arguments; return what it returns.

        Called in a context of its own.
        """
        _running.set(self)
        asyncio._set_running_loop(None)
        try:
            return await self.task.__trace__(*arguments)
        finally:
            asyncio._set_running_loop(self.loop)


_running: ContextVar[TracedCoroutine | None] = ContextVar("turbo_traced_coroutine", default=None)


def is_coroutine(task: Any) -> bool:
    """Whether the body is ``async def``, also under decorators with ``__wrapped__``."""
    bodies = (task.run, type(task).__call__)
    return any(inspect.iscoroutinefunction(inspect.unwrap(body)) for body in bodies)


def refused(app: Celery) -> list[str]:
    """Return at most one phrase: why the app's coroutines cannot run here.

    The reason is the installed Celery.
    """
    name = min((name for name, task in app.tasks.items() if is_coroutine(task)), default=None)
    if name is None:
        return []
    if not hasattr(type(_task_stack), "__ident_func__"):
        return [
            f"task {name} is `async def`, and with USE_FAST_LOCALS set Celery cannot tell such tasks apart: unset it"
        ]
    try:
        _builder()
    except ImproperlyConfigured as error:
        return [f"task {name} is `async def`, and {error}"]
    return []


def build(app: Celery, task: Any, hostname: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return the tracer of a task that is a coroutine.

    The task gets stacks that tell coroutines apart.
    """
    for stack in (_task_stack, task.request_stack):
        stack.__ident_func__ = _identity
    tracer: Callable[..., Coroutine[Any, Any, Any]] = _builder()(
        task.name, task, app.loader, hostname, app=app, **{_CALL: functools.partial(_call_body, _dump_of(app, task))}
    )
    return tracer


def _identity() -> object:
    """Return whose stacks are meant: the running coroutine's, or else the thread's."""
    return _running.get() or get_ident()


async def _call_body(dump: Callable[[Any], Any] | None, body: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call the body and await what it returns, with the soft limit around it.

    ``dump`` turns a model into JSON.
    """
    run = _running.get()
    assert run is not None
    asyncio._set_running_loop(run.loop)
    try:
        result = body(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = await _awaited(run, result, args, kwargs)
            if dump is not None:
                result = dump(result)
        run.ended()
        return result
    except BaseException as error:
        drop_own_frames(error, _OURS)
        raise
    finally:
        asyncio._set_running_loop(None)


async def _awaited(run: TracedCoroutine, body: Any, args: Any, kwargs: Any) -> Any:
    try:
        return await run.limited(body)
    except Exception as error:
        drop_own_frames(error, _OURS)
        if "_orig_run" in vars(run.task):
            _autoretry(run.task, error, args, kwargs)
        raise


def _autoretry(task: Any, error: Exception, args: Any, kwargs: Any) -> None:
    """Have Celery's ``autoretry_for`` look at an error of a coroutine.

    Celery's wrapper has returned the coroutine unawaited. Raises Retry, or the error. The wrapper calls the attribute
    that is replaced here for one call without a wait.
    """

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise error

    original = task._orig_run
    task._orig_run = fail
    try:
        task.run(*args, **kwargs)
    finally:
        task._orig_run = original


def _dump_of(app: Celery, task: Any) -> Callable[[Any], Any] | None:
    """Return what Celery does with the result of a task with ``pydantic=True``.

    None for other tasks. Its wrapper sees the coroutine, not the result. So the same wrapper is put around a function
    that returns the result, with the same annotation and options.
    """
    wrapper = inspect.unwrap(task.run, stop=lambda found: getattr(found, "__globals__", None) is vars(base))
    if getattr(wrapper, "__globals__", None) is not vars(base):
        return None
    given = inspect.getclosurevars(getattr(wrapper, "__func__", wrapper)).nonlocals
    annotation = (given["type_hints"] or {}).get("return", given["task_signature"].return_annotation)

    def dump(result: Any) -> Any:
        def returned() -> Any:
            return result

        returned.__annotations__ = {"return": annotation}
        return base.pydantic_wrapper(app, returned, task.name, dump_kwargs=given["dump_kwargs"])()

    return dump


# -- Celery's source -------------------------------------------------------------------------------------


class _Awaiting(ast.NodeTransformer):
    """Makes the tracer a coroutine function and awaits its one call of the body."""

    def __init__(self) -> None:
        self.awaited = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.name != _TRACER:
            return self.generic_visit(node)
        body = [self.visit(statement) for statement in node.body]
        made = ast.AsyncFunctionDef(
            name=node.name, args=node.args, body=body, decorator_list=node.decorator_list, returns=None
        )
        return ast.copy_location(made, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not (isinstance(node.func, ast.Name) and node.func.id == _BODY):
            return self.generic_visit(node)
        self.awaited += 1
        call = ast.Call(ast.Name(_CALL, ast.Load()), [node.func, *node.args], node.keywords)
        return ast.copy_location(ast.Await(ast.copy_location(call, node)), node)


@functools.cache
def _builder() -> Callable[..., Any]:
    """Compile Celery's builder of tracers with the body awaited.

    Raises ImproperlyConfigured if the installed Celery's source is missing, or not as expected.
    """
    try:
        tree = ast.parse(inspect.getsource(trace))
    except (OSError, SyntaxError) as error:
        raise ImproperlyConfigured(
            f"the source of celery.app.trace, which such tasks need, cannot be read: {error}"
        ) from error
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == _BUILD]
    awaiting = _Awaiting()
    for node in found:
        awaiting.visit(node)
        node.args.kwonlyargs.append(ast.arg(_CALL))
        node.args.kw_defaults.append(None)
    if awaiting.awaited != 1:
        raise ImproperlyConfigured("the tracer of the installed Celery is not one in which turbo can await such a task")
    code = compile(ast.fix_missing_locations(ast.Module(list[ast.stmt](found), [])), trace.__file__, "exec")
    made: dict[str, Any] = {}
    exec(code, vars(trace), made)
    builder: Callable[..., Any] = made[_BUILD]
    return builder
