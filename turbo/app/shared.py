"""What belongs to the current app: ``shared_task``, ``current_task``, ….

For modules that are written before their app is known; runs wherever such modules are imported. It must never create an
app by being imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from turbo import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turbo.app.task import Task
    from turbo.policy.batching import Batch

P = ParamSpec("P")
R = TypeVar("R")


class Proxy:
    """A proxy for an object that is looked up at each use."""

    __slots__ = ("__dict__", "_find")

    def __init__(self, find: Callable[[], Any], fun: Callable[..., Any] | None = None) -> None:
        """``fun`` is the function whose docstring and module the proxy shows."""
        object.__setattr__(self, "_find", find)
        if fun is not None:
            for name in ("__doc__", "__module__"):
                object.__setattr__(self, name, getattr(fun, name, None))

    def _get_current_object(self) -> Any:
        """Return the object itself, for code that compares identities."""
        return object.__getattribute__(self, "_find")()

    @property
    def __class__(self) -> Any:
        """The object's class, for isinstance."""
        return type(self._get_current_object())

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise TypeError("the class of a proxy is that of its object")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object."""
        return self._get_current_object()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._get_current_object())

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __dir__(self) -> list[str]:
        return dir(self._get_current_object())

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()


@overload
def shared_task(fun: Callable[P, R], /) -> Task[P, R]: ...


@overload
def shared_task(
    *, batch: Batch | tuple[int, float], **options: Any
) -> Callable[[Callable[..., Any]], Task[..., Any]]: ...


@overload
def shared_task(*, bind: Literal[True], **options: Any) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...


@overload
def shared_task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def shared_task(fun: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a task of every app: ``@shared_task``, ``@shared_task(name=…)``.

    What it returns is the current app's copy of the task. Options are those of ``Turbo.task``.
    """

    def decorate(fun: Callable[..., Any]) -> Any:
        def join(app: Any) -> Any:
            return app.task_from_function(fun, **options)

        def find() -> Any:
            app = current.current_app()
            return app.tasks[options.get("name") or app.gen_task_name(fun.__name__, fun.__module__)]

        if not hasattr(fun, "__name__"):
            # Raise it here; later it would fail every app that takes over its tasks.
            raise TypeError(f"a task is made of a function, and {fun!r} has no __name__")
        current.connect_on_app_finalize(join)
        for app in current.finalized_apps():
            join(app)
        return Proxy(find, fun)

    return decorate if fun is None else decorate(fun)


#: The current app: a ``turbo.app.base.Turbo``.
current_app: Any = Proxy(current.current_app)
#: The task being run in this thread or coroutine; false outside every task.
current_task: Any = Proxy(current.current_task)
