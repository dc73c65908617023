"""``xmap``, ``xstarmap``, ``chunks``: many calls of a task in few messages.

They are sent as calls of built-in tasks (``celery.map`` and others, ``app.tasks.builtin_tasks``), which run the task's
body once for each item, one after the other. Subclasses of ``Signature``, used in clients and children.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from turbo.app.canvas.call_form import plain
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature, maybe_signature
from turbo.app.publish.options import held_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from turbo.app.interfaces import AppLike


class _Mapped(Signature):
    """A task and the items with which it is called. A generator is consumed at once."""

    _builtin: ClassVar[str]

    def __init__(self, task: Any, it: Iterable[Any], app: AppLike | None = None, **options: Any) -> None:
        super().__init__(
            self._builtin, (), {"task": task, "it": list(it)}, options, immutable=True, app=app
        )  # fmt: skip

    def copy_parts(self) -> None:
        """Replace the task by a copy."""
        self.kwargs = {**self.kwargs, "task": maybe_signature(self.kwargs["task"], self._app, clone=True)}
        self.immutable = True

    def own_app(self) -> AppLike | None:
        """Return the given app, or that of the task."""
        if self._app is None and isinstance(self.kwargs["task"], Signature):
            return self.kwargs["task"].own_app()
        return self._app

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """Send the call to the destination of the mapped task.

        ``args`` and ``kwargs`` have no effect.
        """
        _, _, merged = self._merge((), {}, {name: value for name, value in options.items() if value is not None})
        merged.setdefault("route_name", _name(self.kwargs["task"]))
        work = {"task": plain(self.kwargs["task"]), "it": self.kwargs["it"]}
        task = self.app.tasks.get(self.task)
        with held_options(self.options):
            if task is None:
                return self.app.send_task(self.task, (), work, **merged)
            return task.apply_async((), work, **merged)


@Signature.register_type()
class xmap(_Mapped):
    """``[task(x) for x in it]``, in one process."""

    _builtin = "celery.map"

    def __repr__(self) -> str:
        return f"[{_name(self.kwargs['task'])}(x) for x in {self.kwargs['it']!r:.100}]"


@Signature.register_type()
class xstarmap(_Mapped):
    """``[task(*x) for x in it]``, in one process."""

    _builtin = "celery.starmap"

    def __repr__(self) -> str:
        return f"[{_name(self.kwargs['task'])}(*x) for x in {self.kwargs['it']!r:.100}]"


@Signature.register_type()
class chunks(Signature):
    """``task(*x)`` for each ``x`` of ``it``, in messages of ``n`` each."""

    def __init__(self, task: Any, it: Iterable[Any], n: int, app: AppLike | None = None, **options: Any) -> None:
        super().__init__(
            "celery.chunks", (), {"task": task, "it": list(it), "n": n}, options, immutable=True, app=app
        )  # fmt: skip

    def copy_parts(self) -> None:
        """Replace the task by a copy."""
        self.kwargs = {**self.kwargs, "task": maybe_signature(self.kwargs["task"], self._app, clone=True)}
        self.immutable = True

    def own_app(self) -> AppLike | None:
        """Return the given app, or that of the task."""
        if self._app is None and isinstance(self.kwargs["task"], Signature):
            return self.kwargs["task"].own_app()
        return self._app

    def __call__(self, **options: Any) -> Any:
        """Send the chunks as a group."""
        return self.apply_async(**options)

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """Send the chunks as a group."""
        return self.group().apply_async(args, kwargs, **options)

    def group(self) -> group:
        """Return the group of the chunks."""
        task, n = self.kwargs["task"], self.kwargs["n"]
        return group([xstarmap(task, part, app=self._app) for part in _cut(self.kwargs["it"], n)], app=self._app)

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: AppLike | None = None) -> Any:
        """Send the chunks."""
        return cls(task, it, n, app=app)()


def _name(task: Any) -> Any:
    return task["task"] if isinstance(task, dict) else getattr(task, "name", task)


def _cut(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part
