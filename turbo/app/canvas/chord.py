"""``chord``: a group (the header) and a call (the body) that gets its results.

A subclass of ``Signature``. Sending a chord sends the header tasks with the body in each; the worker that runs the last
of them sends the body. The result store counts the ended tasks, so a store that cannot count is refused before anything
is sent. Runs in clients and children; what a worker does when a header task ends is in ``child.chords``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turbo.app.canvas.call_form import several
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature, maybe_signature, signature
from turbo.app.publish.options import held_options
from turbo.result.group_result import GroupResult, chords_of
from turbo.result.joining import allow_join_result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.interfaces import AppLike

#: Options of ``apply_async`` about the sender; they are ignored, because header tasks are sent like any group.
_SENDERS = ("producer", "publisher", "connection", "router", "result_cls")


@Signature.register_type("chord")
class chord(Signature):
    """``chord(header, body)``: calls, and one that gets the list of their results.

    The body may be omitted and passed when the chord is sent: ``chord(header)(body)``.
    """

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        app: AppLike | None = None,
        **options: Any,
    ) -> None:
        parts = {**(kwargs or {"kwargs": {}}), "header": _header(header, app), "body": maybe_signature(body, app)}
        options.pop("subtask_type", None)
        super().__init__(task, args, parts, subtask_type="chord", app=app, **options)

    def copy_parts(self) -> None:
        """Replace header and body by copies."""
        kwargs = self.kwargs
        header = kwargs["header"]
        header = _header(header, self._app) if isinstance(header, dict) else header
        self.kwargs = {
            "kwargs": {},
            **kwargs,
            "header": [maybe_signature(task, self._app, clone=True) for task in header],
            "body": maybe_signature(kwargs.get("body"), self._app, clone=True),
        }

    @property
    def tasks(self) -> Any:
        """The header: a list of calls, or a group after :meth:`freeze`."""
        return self.kwargs["header"]

    @tasks.setter
    def tasks(self, value: Any) -> None:
        self.kwargs["header"] = value

    @property
    def body(self) -> Any:
        """The call that gets the results, or None."""
        return self.kwargs["body"]

    @body.setter
    def body(self, value: Any) -> None:
        self.kwargs["body"] = value

    def own_app(self) -> AppLike | None:
        """Return the given app, or that of the first header task or the body."""
        for part in (*_listed(self.tasks)[:1], self.body):
            if self._app is None and part is not None and part.own_app() is not None:
                return part.own_app()  # type: ignore[no-any-return]
        return self._app

    # -- sending ---------------------------------------------------------------------------------------------

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send the chord; ``body`` overrides its own."""
        return self.apply_async((), {"body": body} if body else {}, **options)

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> Any:
        """Send the header; return the body's result, whose parent is the header's result.

        Arguments are put before those of the header tasks. ``task_id`` is the body's id. ``countdown`` and ``eta``
        apply to the header, other options to header and body. Raises NotImplementedError if the result store does not
        support chords.
        """
        kwargs = dict(kwargs or {})
        args = (*(args or ()), *self.args) if args and not self.immutable else self.args
        given = {name: value for name, value in options.items() if value is not None and name not in _SENDERS}
        body = kwargs.pop("body", None) or self.body
        kwargs = {**self.kwargs.get("kwargs", {}), **kwargs}
        own = dict(self.options)
        links: dict[str, Any] = {name: given.pop(name) for name in ("link", "link_error") if name in given}
        asked = {name: given.pop(name, None) for name in ("countdown", "eta")}
        kept = {name: own.pop(name, None) for name in asked}
        body = maybe_signature(body, self._app, clone=True)
        body.options.update(_merged_into(body, given))
        if self.app.conf["task_always_eager"]:
            body = _with_callbacks(body, {**own, **links})
            with allow_join_result():
                return self.apply(args, kwargs, body=body, task_id=task_id, **given)
        header = _group_of(self.tasks, self.app, own.get("task_id"))
        merged = {**own, **given, **links}
        body_id = merged.pop("task_id", None) if task_id is None else task_id
        delay: dict[str, Any] = {name: kept[name] if value is None else value for name, value in asked.items()}
        with held_options(self.options):
            return self.run(
                header, body, args, self.app, task_id=body_id, kwargs=kwargs, header_delay=delay, **merged
            )  # fmt: skip

    def run(
        self,
        header: group,
        body: Any,
        partial_args: Any,
        app: AppLike | None = None,
        interval: float | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        eager: bool = False,
        task_id: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        header_delay: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Send ``header`` with ``body`` in each of its tasks.

        With an empty header, send the body. ``header_delay`` holds the header's ``countdown`` or ``eta``.
        ``interval``, ``countdown``, ``max_retries`` and ``eager`` are accepted for compatibility and ignored:
        in Celery they control polling, which turbo does not do.
        """
        app = app or self.app
        group_id: str = header.options.setdefault("task_id", str(uuid4()))
        root_id = body.options.get("root_id")
        options.pop("task_id", None)
        body = _with_callbacks(body, options)
        body.options.update((name, value) for name, value in options.items() if name != "parent_id")
        # The body, not the header, continues the chain and reports to an enclosing chord.
        options = {name: value for name, value in options.items() if name not in ("chain", "chord")}
        body.split_bodies()
        result = body.freeze(task_id or str(uuid4()), group_id=group_id, root_id=root_id)
        body.strip_headers()
        settled = header.freeze(group_id=group_id, chord=body, root_id=root_id)
        if not header.tasks:
            body.delay([])
            result.parent = settled
            return result
        chords = chords_of(app.backend)
        if any(isinstance(part, GroupResult) for part in settled):
            chords.save_structure(group_id, settled.as_tuple())
        result.parent = header.apply_async(
            partial_args, kwargs, **{**options, **(header_delay or {}), "task_id": group_id}
        )  # fmt: skip
        return result

    def apply(
        self, args: Any = None, kwargs: Any = None, propagate: bool = True, body: Any = None, **options: Any
    ) -> Any:
        """Run the header and then the body in this process; return the body's result."""
        body = self.body if body is None else body
        header = _group_of(self.tasks, self.app, None)
        return body.apply((header.apply(args, kwargs).get(propagate=propagate, disable_sync_subtasks=False),))

    # -- freezing --------------------------------------------------------------------------------------------

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Set the ids of header and body.

        Returns the body's result, with the header's as its first ancestor. Returns None without a body.
        """
        if not isinstance(self.tasks, group):
            self.tasks = group(self.tasks, app=self._app)
        header = self.tasks.freeze(parent_id=parent_id, root_id=root_id, chord=self.body)
        self.id = self.tasks.id
        if self.body is None:
            return None
        result = self.body.freeze(_id, root_id=root_id, chord=chord, group_id=group_id, group_index=group_index)
        first = first_ancestor(result)
        if first is not header:
            first.parent = header
        return result

    # -- changing --------------------------------------------------------------------------------------------

    def set_immutable(self, immutable: bool) -> None:
        """Set whether the header tasks ignore further arguments."""
        for task in _listed(self.tasks):
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Add a callback to the body; return ``callback``."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Add an error callback to the body, which also fails when a header task fails.

        Returns ``errback``. With ``task_allow_error_cb_on_chord_header`` it is added to each header task as
        well.
        """
        errback = maybe_signature(errback)
        on_header = self.app.conf["task_allow_error_cb_on_chord_header"]
        for task in _listed(self.tasks):
            if on_header:
                task.link_error(errback.clone())
            if isinstance(task, chord):
                task.link_error(errback)
        self.body.link_error(errback)
        return errback

    # -- called on the parts of a canvas ---------------------------------------------------------------------

    def chord_size(self) -> int:
        """Return the body's size; 0 without a body."""
        return 0 if self.body is None else self.body.chord_size()

    def leave_chord(self) -> None:
        """Remove the chord of the body."""
        super().leave_chord()
        if self.body is not None:
            self.body.leave_chord()

    def strip_headers(self) -> None:
        """Remove the bodies from the header tasks, also in chords inside the chord."""
        header = self.tasks
        for task in [header] if isinstance(header, group) else header:
            task.leave_chord()
            task.strip_headers()
        if self.body is not None:
            self.body.strip_headers()

    def __repr__(self) -> str:
        return f"<chord without body: {self.tasks!r}>" if self.body is None else "%" + self.body.reprcall(self.tasks)


def first_ancestor(result: Any) -> Any:
    """Return the first ancestor of a result, or the result itself if it has no parent."""
    while result.parent is not None:
        result = result.parent
    return result


def _listed(header: Any) -> list[Any]:
    return header.tasks if isinstance(header, group) else header


def _header(header: Any, app: AppLike | None) -> list[Any]:
    """Return the tasks of a header as a list.

    ``header`` is a group, a chain, a single call, or an iterable of calls.
    """
    if isinstance(header, dict):
        header = maybe_signature(header, app)
        parts = header.kwargs.get("tasks") if header.subtask_type in ("group", "chain") else [header]
        return list(parts or ())
    return [signature(task, app=app) for task in header]


def _group_of(header: Any, app: AppLike, group_id: str | None) -> group:
    """Return a copy of a header as a group."""
    if isinstance(header, group):
        found = header.clone()
        assert isinstance(found, group)
        return found
    made = group([maybe_signature(task, app, clone=True) for task in header], app=app)
    made.options["task_id"] = group_id or str(uuid4())
    return made


def _merged_into(body: Signature, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body's options overridden by ``options``, without ``parent_id``.

    The last header task sets that.
    """
    given = {name: value for name, value in options.items() if name != "parent_id"}
    _, _, merged = body._merge((), {}, given)  # noqa: SLF001 - a class of this family
    return merged


def _with_callbacks(body: Any, options: dict[str, Any]) -> Any:
    """Move ``link`` and ``link_error`` from ``options`` to the body.

    A header (a group) would refuse them.
    """
    for callback in several(options.pop("link", None)):
        callback = maybe_signature(callback, clone=True)
        if isinstance(body, group) and not body.tasks:
            body.append_to_list_option("link", callback)
        else:
            body.link(callback)
    for errback in several(options.pop("link_error", None)):
        if isinstance(body, group):
            _link_error_to_members(body, maybe_signature(errback))
        else:
            body.append_to_list_option("link_error", errback)
    return body


def _link_error_to_members(body: Any, errback: Any, *, whole: bool = True) -> None:
    """Add an error callback to each call of a group that is a chord's body.

    If the group itself (``whole``) has error callbacks, it is added there, since those replace its members'.
    """
    if isinstance(body, chord):
        _link_error_to_members(body.body, errback)
    elif not isinstance(body, group):
        body.link_error(errback.clone())
    elif whole and body.options.get("link_error") is not None:
        body.append_to_list_option("link_error", errback.clone())
    else:
        for task in body.tasks:
            _link_error_to_members(task, errback, whole=False)
