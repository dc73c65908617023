"""``Signature``: one call of a task as a value, to be sent later, changed, or passed to another task as its callback.

A dict in the form in which it travels in messages, so any serializer carries it and Celery's workers read it. Made by
``Task.s`` and its like, and of what arrives in messages. It must never import an app: it asks ``current`` for one.
Chains, groups and chords are other things, and refused by name.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

from turbo import current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.base import Turbo
    from turbo.app.task import Task
    from turbo.result.async_result import AsyncResult
    from turbo.result.eager import EagerResult

#: Options that a later call must not change: somebody waits for the task by them.
_FIXED: Final = frozenset({"group_id", "stamped_headers"})


class _Parts(dict[str, Any]):
    """The keys of a signature as attributes."""

    @property
    def task(self) -> str:
        """The task's name."""
        name: str = self["task"]
        return name

    name = task

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self.get("args") or ()

    @args.setter
    def args(self, value: Any) -> None:
        self["args"] = value

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return self.setdefault("kwargs", {}) or {}

    @kwargs.setter
    def kwargs(self, value: dict[str, Any]) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``Task.apply_async``."""
        options: dict[str, Any] | None = self.get("options")
        if options is None:
            options = self["options"] = {}
        return options

    @options.setter
    def options(self, value: dict[str, Any]) -> None:
        self["options"] = value

    @property
    def subtask_type(self) -> str | None:
        """None: it is a single task."""
        return self.get("subtask_type")

    @property
    def immutable(self) -> bool:
        """Whether it takes no more arguments."""
        return bool(self.get("immutable"))

    @immutable.setter
    def immutable(self, value: bool) -> None:
        self["immutable"] = value

    @property
    def id(self) -> str | None:
        """The id that the call will have, if it is settled already."""
        return self.options.get("task_id")

    @property
    def parent_id(self) -> str | None:
        """The id of the task that it comes from, if that is settled."""
        return self.options.get("parent_id")

    @property
    def root_id(self) -> str | None:
        """The id of the first task of all, if that is settled."""
        return self.options.get("root_id")


class Signature(_Parts):
    """A call of one task: its name, arguments and options.

    ``task`` is a task or its name, or a mapping of the very form. ``options`` and further keywords are those of
    ``Task.apply_async``. An ``immutable`` one takes no more arguments, so that as a callback it is called without the
    result.
    """

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Task | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Turbo | None = None,
        **more: Any,
    ) -> None:
        self._app = app
        self._type = type
        if isinstance(task, dict):
            super().__init__(task)
            return
        if not isinstance(task, str) and hasattr(task, "name"):
            self._type, task = task, task.name
        super().__init__(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Turbo | None = None) -> Signature:
        """Make one of what travelled. Raises NotImplementedError for a chain, group, chord and their like."""
        kind = d.get("subtask_type")
        if kind:
            raise NotImplementedError(f"{kind} signatures do not exist yet")
        return Signature(dict(d), app=app)

    # -- what it stands for ----------------------------------------------------------------------------------

    @property
    def app(self) -> Turbo:
        """The app that sends it: its own, or the current one."""
        if self._app is not None:
            return self._app
        app: Turbo = self._type.app if self._type is not None else current.current_app()
        return app

    @property
    def type(self) -> Task:
        """The task itself. Raises NotRegistered where it is not registered."""
        if self._type is None:
            self._type = self.app.tasks[self.task]
        return self._type

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task's body here and now, as a function; further arguments go before its own."""
        args, kwargs, _ = self._merge(args, kwargs, {})
        return self.type(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it; further arguments go before its own."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any) -> Any:
        """Send it; further arguments go before its own, further options over its own (None: no option)."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, merged = self._merge(args, kwargs, given)
        task: Task | None = self._type or self.app.registered(self.task)
        send = partial(self.app.send_task, self.task) if task is None else task.apply_async
        return send(args, kwargs, **merged)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> EagerResult:
        """Run it in this process, as ``Task.apply`` does."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, merged = self._merge(args, kwargs, given)
        return self.type.apply(args, kwargs, **merged)

    def _merge(
        self, args: Any, kwargs: Any, options: Mapping[str, Any], *, force: bool = False
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Put more arguments before its own and more options over its own."""
        own = self.options
        fixed = _FIXED.union(own.get("stamped_headers") or ())
        merged = {**own, **{k: v for k, v in options.items() if k not in own or k not in fixed}}
        if self.immutable and not force:
            return self.args, self.kwargs, merged
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, merged

    # -- changing --------------------------------------------------------------------------------------------

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """Return another one, with more arguments before its own and more options over its own."""
        args, kwargs, merged = self._merge(args, kwargs, options)
        copied = Signature(
            {**self, "args": tuple(args), "kwargs": dict(kwargs), "options": deepcopy(merged)},
            type=self._type,
            app=self._app,
        )
        return copied

    partial = clone

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Signature:
        """Return another one with these arguments or options instead; None leaves its own."""
        copied = self.clone()
        given = (("args", args), ("kwargs", kwargs), ("options", options))
        copied.update((name, value) for name, value in given if value is not None)
        return copied

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Set options; returns itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Let it take no more arguments, or again."""
        self.immutable = immutable

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> AsyncResult:
        """Settle the id that the call will have, and return the handle of its result before it is sent."""
        options = self.options
        task_id: str = options.setdefault("task_id", _id or str(uuid4()))
        options.setdefault("reply_to", self.app.thread_oid)
        if group_id:
            options.setdefault("group_id", group_id)
        given = {"root_id": root_id, "parent_id": parent_id, "chord": chord, "group_index": group_index}
        options.update((name, value) for name, value in given.items() if value is not None)
        return self.app.AsyncResult(task_id)

    def link(self, callback: Any) -> Any:
        """Have ``callback`` called with the result when the task returns; returns ``callback``."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have ``errback`` called when the task fails; returns ``errback``."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """:meth:`link_error` that returns this signature."""
        self.link_error(errback)
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add ``value`` to the list that is the option ``key``, once; returns ``value``."""
        items = self.options.get(key)
        if not isinstance(items, list):
            items = [] if items is None else list(items) if isinstance(items, (tuple, set, frozenset)) else [items]
            self.options[key] = items
        if value not in items:
            items.append(value)
        return value

    def flatten_links(self) -> list[Signature]:
        """Return itself, its callbacks, theirs, and so on."""
        links = self.options.get("link") or ()
        found = [self]
        for each in links if isinstance(links, (list, tuple)) else (links,):
            found.extend(signature(each).flatten_links())
        return found

    def __or__(self, other: object) -> Any:
        if isinstance(other, dict):
            raise NotImplementedError("chains of signatures do not exist yet: use link= for what follows a task")
        return NotImplemented

    __ior__ = __or__

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        plain = memo[id(self)] = dict(self)
        # Arguments may be anything, also what cannot be copied.
        plain["options"] = deepcopy(self.options, memo)
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (dict(self),)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as text, with these arguments before its own."""
        args, kwargs, _ = self._merge(args, kwargs, {}, force=True)
        shown = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{self.task}({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.reprcall()


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """Return a new signature of a task or its name, a copy of a signature, or one of what travelled as a mapping."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Turbo | None = None, clone: bool = False) -> Any:
    """Return ``d``, a signature or a mapping that travelled, as a signature; what is neither is returned as it is."""
    if isinstance(d, Signature):
        found = d.clone() if clone else d
    elif isinstance(d, dict):
        found = signature(d)
    else:
        return d
    if app is not None:
        found._app = app  # noqa: SLF001 - its own class
    return found


def plain(value: Any) -> Any:
    """Return a signature as the mapping that travels, also those in its options; anything else as it is."""
    if not isinstance(value, Signature):
        return value
    options = dict(value.options)
    for name in ("link", "link_error"):
        if options.get(name):
            links = options[name]
            options[name] = [plain(each) for each in (links if isinstance(links, (list, tuple)) else (links,))]
    return {**value, "options": options}
