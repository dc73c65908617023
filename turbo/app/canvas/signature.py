"""``Signature``: a call of a task as a value.

A signature is a dict with the same keys as in messages, so that any serializer encodes it and Celery's workers read it.
Made by ``Task.s`` and similar methods, and from received messages. This module must never import an app: it gets one
from ``current``. Chains, groups and chords (``app.canvas.chain`` and others) are subclasses that register themselves
here under their ``subtask_type``; ``app.canvas.rules`` registers the function behind ``|``. This module imports
neither.
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

    from turbo.app.interfaces import AppLike, TaskLike
    from turbo.result.eager import EagerResult

#: Options that a later call must not change, because others use them to wait for the task.
_FIXED: Final = frozenset({"group_id", "stamped_headers"})


#: A class of signatures.
Kind = TypeVar("Kind", bound="Signature")


class Signature(CallForm, AsyncSignature):
    """A call of one task: its name, arguments and options.

    ``task`` is a task, its name, or a dict in the form of a signature. ``options`` and further keywords are those of
    ``Task.apply_async``. An ``immutable`` signature accepts no more arguments, so that as a callback it is called
    without the parent's result.
    """

    #: Subclasses by their ``subtask_type``.
    TYPES: ClassVar[dict[str, type[Signature]]] = {}

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: TaskLike | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: AppLike | None = None,
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
        """Return a decorator that registers a class under ``name`` (default: its own)."""

        def register(kind: type[Kind]) -> type[Kind]:
            Signature.TYPES[name or kind.__name__] = kind
            return kind

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: AppLike | None = None) -> Signature:
        """Make a signature from its dict form; the class is chosen by ``subtask_type``.

        Its parts are copied. Raises InvalidTaskError for an unknown ``subtask_type`` or missing parts.
        """
        name = d.get("subtask_type")
        kind = Signature.TYPES.get(name) if name else Signature
        if kind is None:
            raise InvalidTaskError(f"unknown subtask_type of a signature: {name!r}")
        if kind is not cls:
            return kind.from_dict(d, app=app)
        made = kind.__new__(kind)
        dict.__init__(made, d)
        made._app, made._type = app, None  # noqa: SLF001 - the same class
        try:
            made.copy_parts()
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidTaskError(f"not a valid {name} signature: {error!r}") from error
        return made

    def copy_parts(self) -> None:
        """Replace the parts by signatures that belong to this one.

        Before, the parts are dicts, or signatures that are shared with others.
        """

    # -- app and task ----------------------------------------------------------------------------------------

    @property
    def app(self) -> AppLike:
        """The given app, that of the task or the first part, or the current app."""
        app = self.own_app()
        return current.current_app() if app is None else app

    @property
    def given_app(self) -> AppLike | None:
        """The app that was passed to the constructor, or None."""
        return self._app

    def own_app(self) -> AppLike | None:
        """Return the app of this signature, its task or its parts; None if they have none."""
        return self._app if self._app is not None or self._type is None else self._type.app

    @property
    def type(self) -> TaskLike:
        """The task object. Raises NotRegistered if the app has no task of this name."""
        if self._type is None:
            self._type = self.app.tasks[self.task]
        return self._type

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's body in this process; ``args`` are put before its own."""
        args, kwargs, _ = self._merge(args, kwargs, {})
        return self.type(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the call; ``args`` are put before the signature's own."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any) -> Any:
        """Send the call, ``args`` before its own and ``options`` over its own."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, merged = self._merge(args, kwargs, given)
        task: TaskLike | None = self._type or self.app.tasks.get(self.task)
        send = partial(self.app.send_task, self.task) if task is None else task.apply_async
        with held_options(self.options):
            return send(args, kwargs, **merged)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> EagerResult:
        """Run the call in this process, as ``Task.apply`` does."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, merged = self._merge(args, kwargs, given)
        return self.type.apply(args, kwargs, **merged)

    def _merge(
        self, args: Any, kwargs: Any, options: Mapping[str, Any], *, force: bool = False
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Return args, kwargs and options merged with the signature's own.

        ``args`` are put before its own; ``kwargs`` and ``options`` override its own. An immutable signature ignores
        the arguments unless ``force``.
        """
        own = self.options
        fixed = _FIXED.union(own.get("stamped_headers") or ())
        merged = {**own, **{k: v for k, v in options.items() if k not in own or k not in fixed}}
        if self.immutable and not force:
            return self.args, self.kwargs, merged
        args = (*args, *self.args) if args else self.args
        return args, {**self.kwargs, **(kwargs or {})}, merged

    # -- changing --------------------------------------------------------------------------------------------

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """Return a copy with merged arguments and options.

        ``args`` are put before its own; ``kwargs`` and ``options`` override its own.
        """
        args, kwargs, merged = self._merge(args, kwargs, options)
        parts = {**self, "args": tuple(args), "kwargs": dict(kwargs), "options": deepcopy(merged)}
        copied = Signature.from_dict(parts, app=self._app)
        copied._type = self._type  # noqa: SLF001 - the same class
        return copied

    partial = clone

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Signature:
        """Return a copy with other arguments or options; None keeps its own."""
        copied = self.clone()
        given = (("args", args), ("kwargs", kwargs), ("options", options))
        copied.update((name, value) for name, value in given if value is not None)
        return copied

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Set options; return self."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Set whether the signature ignores further arguments."""
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
        """Set the id of the call before it is sent; return the handle of its result.

        The call becomes number ``group_index`` of the group ``group_id``; ``chord`` is the body that is called when all
        tasks of that group have succeeded.
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
        """Set stamps on this call, its parts and its callbacks; return self.

        They are ``headers``, and those that ``visitor`` returns. ``visitor`` is a ``turbo.canvas.StampingVisitor``. If
        a stamp has several values, the first is kept; ``append_stamps`` keeps all of them in a list. Running tasks read
        them from ``self.request.stamps``.
        """
        _stamp(self, visitor, append_stamps, headers)
        return self

    def flatten_links(self) -> list[Signature]:
        """Return this signature and, recursively, its callbacks."""
        found = [self]
        for each in several(self.options.get("link")):
            found.extend(signature(each).flatten_links())
        return found

    # -- joining, copying, showing ---------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Signature):
            return _follow(self, other)
        if isinstance(other, dict):
            # Otherwise dict.__or__ would merge the two.
            raise TypeError("| joins signatures only: convert the mapping with signature()")
        return NotImplemented

    __ior__ = __or__

    def __ror__(self, other: Any) -> Any:
        return Signature.__or__(self, other) if not isinstance(other, Signature) else _follow(other, self)

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        plain = memo[id(self)] = dict(self)
        # Arguments are not copied: they may be objects that cannot be.
        plain["options"] = deepcopy(self.options, memo)
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (dict(self),)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return the call as text, with ``args`` put before its own."""
        args, kwargs, _ = self._merge(args, kwargs, {}, force=True)
        shown = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{self.task}({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.reprcall()


#: The implementations of ``|``, ``chain(…)`` and ``stamp``; set once, by ``turbo.canvas``.
_follow: Callable[[Signature, Signature], Any]
_fold: Callable[[Iterable[Any]], Any]
_stamp: Callable[[Signature, Any, bool, Mapping[str, Any]], None]


def set_rules(
    follow: Callable[[Signature, Signature], Any],
    fold: Callable[[Iterable[Any]], Any],
    stamp: Callable[[Signature, Any, bool, Mapping[str, Any]], None],
) -> None:
    """Set what ``first | second``, ``chain(…)`` and ``Signature.stamp`` do."""
    global _follow, _fold, _stamp
    _follow, _fold, _stamp = follow, fold, stamp


def folded_chain(tasks: Iterable[Any]) -> Any:
    """Return ``chain(*tasks)``.

    This may be a chain, or the single signature or chord that the calls reduce to.
    """
    return _fold(tasks)


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """Return a new signature.

    ``varies`` is a task or task name, a signature (which is copied), or the dict form of one.
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: AppLike | None = None, clone: bool = False) -> Any:
    """Return ``d`` as a signature if it is one or the dict form of one.

    Otherwise unchanged. ``clone`` copies a signature; ``app`` replaces its app.
    """
    if isinstance(d, Signature):
        found = d.clone() if clone else d
    elif isinstance(d, dict):
        found = signature(d, app=app)
    else:
        return d
    if app is not None:
        found._app = app  # noqa: SLF001 - the same class
    return found
