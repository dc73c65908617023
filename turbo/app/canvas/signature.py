"""``Signature``: one call of a task as a value, to be sent later, changed, or passed to another task as its callback.

A dict in the form in which it travels in messages, so any serializer carries it and Celery's workers read it. Made by
``Task.s`` and its like, and of what arrives in messages. It must never import an app: it asks ``current`` for one.
Chains, groups and chords (``app.canvas.chain`` and its neighbours) are kinds of it that register here under the
``subtask_type`` with which they travel, and so does what ``|`` does (``app.canvas.rules``): this module knows neither.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar
from uuid import uuid4

from turbo import current
from turbo.app.canvas.call_form import CallForm, several
from turbo.app.publish.options import held_options
from turbo.app.tasks.async_calls import AsyncSignature
from turbo.exceptions import InvalidTaskError
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turbo.app.base import Turbo
    from turbo.app.task import Task
    from turbo.result.eager import EagerResult

#: Options that a later call must not change: somebody waits for the task by them.
_FIXED: Final = frozenset({"group_id", "stamped_headers"})


#: A class of signatures.
Kind = TypeVar("Kind", bound="Signature")


class Signature(CallForm, AsyncSignature):
    """A call of one task: its name, arguments and options.

    ``task`` is a task or its name, or a mapping of the very form. ``options`` and further keywords are those of
    ``Task.apply_async``. An ``immutable`` one takes no more arguments, so that as a callback it is called without the
    result.
    """

    #: The kinds by the ``subtask_type`` that they travel with.
    TYPES: ClassVar[dict[str, type[Signature]]] = {}

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
    def register_type(cls, name: str | None = None) -> Callable[[type[Kind]], type[Kind]]:
        """Return a decorator that makes a class the one of signatures that travel as ``name`` (its own by default)."""

        def register(kind: type[Kind]) -> type[Kind]:
            Signature.TYPES[name or kind.__name__] = kind
            return kind

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Turbo | None = None) -> Signature:
        """Make one of what travelled, of the kind that it names.

        What it is made of is copied. Raises InvalidTaskError for an unknown kind, or for what is none of its kind.
        """
        name = d.get("subtask_type")
        kind = Signature.TYPES.get(name) if name else Signature
        if kind is None:
            raise InvalidTaskError(f"there is no kind of signature called {name!r}")
        if kind is not cls:
            return kind.from_dict(d, app=app)
        made = kind.__new__(kind)
        dict.__init__(made, d)
        made._app, made._type = app, None  # noqa: SLF001 - its own class
        try:
            made.own_parts()
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidTaskError(f"this is no {name}: {error!r}") from error
        return made

    def own_parts(self) -> None:
        """Have signatures of its own as parts, where now it holds mappings or somebody else's signatures."""

    # -- what it stands for ----------------------------------------------------------------------------------

    @property
    def app(self) -> Turbo:
        """The app that sends it: its own, that of its task or of its first part, or the current one."""
        app = self.own_app()
        return current.current_app() if app is None else app

    @property
    def given_app(self) -> Turbo | None:
        """The app that it was made with."""
        return self._app

    def own_app(self) -> Turbo | None:
        """The app that it or something in it belongs to, if any."""
        return self._app if self._app is not None or self._type is None else self._type.app

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
        task: Task | None = self._type or self.app.tasks.get(self.task)
        send = partial(self.app.send_task, self.task) if task is None else task.apply_async
        with held_options(self.options):
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
        args = (*args, *self.args) if args else self.args
        return args, {**self.kwargs, **(kwargs or {})}, merged

    # -- changing --------------------------------------------------------------------------------------------

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """Return another one, with more arguments before its own and more options over its own."""
        args, kwargs, merged = self._merge(args, kwargs, options)
        parts = {**self, "args": tuple(args), "kwargs": dict(kwargs), "options": deepcopy(merged)}
        copied = Signature.from_dict(parts, app=self._app)
        copied._type = self._type  # noqa: SLF001 - its own class
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
    ) -> Any:
        """Settle the id that the call will have, and return the handle of its result before it is sent.

        ``chord`` is what runs when all of the group ``group_id`` are done, of which this is number ``group_index``.
        """
        options = self.options
        task_id = options["task_id"] = text_id(options.get("task_id") or _id or uuid4())
        options.setdefault("reply_to", self.app.thread_oid)
        if group_id:
            options.setdefault("group_id", group_id)
        given = {"root_id": root_id, "parent_id": parent_id, "chord": chord or None, "group_index": group_index}
        options.update((name, value) for name, value in given.items() if value is not None)
        return (self._type or self.app.registered(self.task) or self.app).AsyncResult(task_id)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Self:
        """Put ``headers`` of your own, and those that ``visitor`` says, on this and on all that belongs to it.

        ``visitor`` is a ``turbo.canvas.StampingVisitor``. Of several values of one stamp the first holds;
        ``append_stamps`` makes a list of them. Running tasks find them in ``self.request.stamps``.
        """
        _stamp(self, visitor, append_stamps, headers)
        return self

    def flatten_links(self) -> list[Signature]:
        """Return itself, its callbacks, theirs, and so on."""
        found = [self]
        for each in several(self.options.get("link")):
            found.extend(signature(each).flatten_links())
        return found

    # -- joining, copying, showing ---------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Signature):
            return _follow(self, other)
        if isinstance(other, dict):
            # The two would be merged as any mappings are.
            raise TypeError("only signatures follow one another: make one of the mapping with signature()")
        return NotImplemented

    __ior__ = __or__

    def __ror__(self, other: Any) -> Any:
        return Signature.__or__(self, other) if not isinstance(other, Signature) else _follow(other, self)

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


#: What ``|`` does, what ``chain`` makes of its arguments, what ``stamp`` does; set once, by ``turbo.canvas``.
_follow: Callable[[Signature, Signature], Any]
_fold: Callable[[Iterable[Any]], Any]
_stamp: Callable[[Signature, Any, bool, Mapping[str, Any]], None]


def set_rules(
    follow: Callable[[Signature, Signature], Any],
    fold: Callable[[Iterable[Any]], Any],
    stamp: Callable[[Signature, Any, bool, Mapping[str, Any]], None],
) -> None:
    """Say what ``first | second`` is, what ``chain(first, …)`` is, and what ``Signature.stamp`` does."""
    global _follow, _fold, _stamp
    _follow, _fold, _stamp = follow, fold, stamp


def folded_chain(tasks: Iterable[Any]) -> Any:
    """Return what ``chain`` makes of several calls."""
    return _fold(tasks)


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
        found = signature(d, app=app)
    else:
        return d
    if app is not None:
        found._app = app  # noqa: SLF001 - its own class
    return found
