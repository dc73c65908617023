"""Makes a task from a function: its automatic name, its class and the instance.

Called by ``Turbo.task`` while the program's modules are imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from turbo.app.tasks.autoretry import add_autoretry
from turbo.app.tasks.call_options import argument_check
from turbo.app.tasks.models import Models
from turbo.policy.batching import batch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.app.interfaces import AppLike, TaskLike


#: The class that a task is made of.
T = TypeVar("T", bound="TaskLike")


def task_name(main: str | None, name: str, module: str) -> str:
    """Return the automatic name of a task, ``module.name``.

    ``main`` (the app's name) replaces ``__main__``, the module that is run as a program.
    """
    module = module or "__main__"
    found = sys.modules.get(module)
    module = module if found is None else found.__name__
    if module == "__main__" and main:
        module = main
    return f"{module}.{name}"


def make_task(
    app: AppLike, base: type[T], fun: Callable[..., Any], name: str, bind: bool, options: dict[str, Any]
) -> T:
    """Return a task named ``name`` with body ``fun`` and attributes ``options``.

    Each task is the only instance of a new subclass of ``base``, so that with ``bind`` the body is a method and gets
    the task as its first argument. The task's name, annotations and signature are those of ``fun``. ``pydantic`` and
    the options that begin with it go to ``app.tasks.models``. Raises TypeError when ``base`` is not a Task class.
    """
    options = dict(options)
    models = _models(app, fun, name, options)
    batch = options["batch"] = batch_of(options.get("batch", base.batch))
    if batch is not None and models is not None:
        raise TypeError(f"task {name} takes batches, so pydantic=True cannot apply to its body's arguments")
    # The body of a task with batches takes a list of requests, whatever their arguments are.
    check = argument_check(fun, bind) if batch is None else None
    body: Any = fun if models is None else models.wrap()
    attributes = {
        "name": name,
        "run": body if bind else staticmethod(body),
        "abstract": False,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__qualname__": getattr(fun, "__qualname__", fun.__name__),
        "__wrapped__": fun if bind else staticmethod(fun),
        "__header__": None if check is None else staticmethod(check),
        "__models__": models,
        "__bound__": bind,
        **options,
    }
    task: T = type(fun.__name__, (base,), attributes)()
    # Set on the instance, because a class has its own attributes of these names.
    task.__dict__.update(
        __qualname__=attributes["__qualname__"], __annotations__=dict(getattr(fun, "__annotations__", {}))
    )
    add_autoretry(task)
    return task


def _models(app: AppLike, fun: Callable[..., Any], name: str, options: dict[str, Any]) -> Models | None:
    """Remove the pydantic options from ``options``.

    Returns the models, or None without ``pydantic=True``.
    """
    wanted = options.pop("pydantic", False)
    strict = bool(options.pop("pydantic_strict", False))
    context = options.pop("pydantic_context", None)
    dump_kwargs = options.pop("pydantic_dump_kwargs", None)
    if not wanted:
        return None
    return Models(app, fun, name, strict=strict, context=context, dump_kwargs=dump_kwargs)
