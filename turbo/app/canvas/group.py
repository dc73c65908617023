"""``group``: several calls that run in parallel.

A subclass of ``Signature``. Sending a group sends its members, each with the group's id and its index; the members of
nested groups are sent as members of the outer one. As the header of a chord it also stores the number of tasks, before
the last one is sent. Runs in clients and children.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turbo import current
from turbo.app.canvas.signature import Signature, maybe_signature, signature
from turbo.app.publish.options import held_options
from turbo.result.group_result import GroupResult, chords_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from turbo.app.interfaces import AppLike

#: Options that each member sets itself.
_OF_MEMBERS = ("chord", "group_index", "add_to_parent", "task_id")


@Signature.register_type("group")
class group(Signature):
    """Calls that run in parallel: ``group(add.s(2, 2), add.s(4, 4))``.

    An iterable works too: ``group(add.s(i, i) for i in range(9))``. A generator is consumed at once. ``options`` apply
    to every member. Calling a group sends it.
    """

    def __init__(self, *tasks: Any, app: AppLike | None = None, **options: Any) -> None:
        super().__init__(
            "celery.group", (), {"tasks": _members(tasks, app)}, options, subtask_type="group", app=app
        )  # fmt: skip

    def copy_parts(self) -> None:
        """Replace the members by copies."""
        own = [maybe_signature(task, self._app, clone=True) for task in self.kwargs["tasks"]]
        self.kwargs = {**self.kwargs, "tasks": own}

    @property
    def tasks(self) -> list[Any]:
        """The members."""
        tasks: list[Any] = self.kwargs["tasks"]
        return tasks

    @tasks.setter
    def tasks(self, value: Iterable[Any]) -> None:
        self.kwargs["tasks"] = list(value)

    def own_app(self) -> AppLike | None:
        """Return the given app, or that of the first member."""
        return self._app if self._app is not None or not self.tasks else self.tasks[0].own_app()

    def unrolled(self) -> Any:
        """Return the only member, or the group itself if it has more or none."""
        return self.tasks[0] if len(self.tasks) == 1 else self

    # -- sending ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send the group; the arguments are put before those of each member."""
        return self.apply_async(args, **options)

    def apply_async(  # type: ignore[override]
        self,
        args: Any = None,
        kwargs: Any = None,
        add_to_parent: bool = True,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> Any:
        """Send the members; return a GroupResult.

        Raises TypeError for ``link`` and ``link_error``: use a chord, or link the members.
        """
        if link is not None or link_error is not None:
            what = "link to group: use a chord" if link is not None else "link to group: do that on individual tasks"
            raise TypeError(f"Cannot add {what}")
        app = self.app
        if app.conf["task_always_eager"]:
            return self.apply(args, kwargs, **options)
        if not self.tasks:
            return self.freeze()
        options, group_id = self._options_of_members(options)
        parts = list(self.parts(group_id, options.get("root_id")))
        chord = options.get("chord")
        shared = {k: v for k, v in options.items() if k not in _OF_MEMBERS}
        size = 0
        with _together(app, producer), held_options(self.options):
            for number, (part, result) in enumerate(parts, 1):
                size += part.chord_size()
                body = chord if chord is not None else part.options.get("chord")
                if number == len(parts) and body is not None:
                    chords_of(app.backend).set_size(group_id, size)
                sent = part.apply_async(args, kwargs, producer=producer, add_to_parent=False, chord=body, **shared)
                result.ignored = sent is not None and sent.ignored
        result = app.GroupResult(group_id, [result for _, result in parts])
        if len(result) == 1 and isinstance(result[0], GroupResult):
            # The only member is a chain that ends with a group.
            result = result[0]
        frame = current.worker_frame() if add_to_parent else None
        if frame is not None:
            frame.task.add_trail(result)
        return result

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run the members in this process, one after the other; return a GroupResult."""
        if not self.tasks:
            return self.freeze()
        options, group_id = self._options_of_members(options)
        shared = {k: v for k, v in options.items() if k != "task_id"}
        results = [part.apply(args, kwargs, **shared) for part, _ in self.parts(group_id, None, freeze=False)]
        return self.app.GroupResult(group_id, results)

    def _options_of_members(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Return the options for sending the members, and the id of the group."""
        _, _, merged = self._merge((), {}, options)
        group_id: str = merged.pop("task_id", None) or str(uuid4())
        return {**merged, "group_id": group_id}, group_id

    def parts(self, group_id: str, root_id: str | None, *, freeze: bool = True) -> Iterator[tuple[Signature, Any]]:
        """Yield a copy of each member and its result (None unless ``freeze``).

        Nested groups are flattened.
        """
        for index, task in enumerate(self.tasks):
            part = maybe_signature(task, self._app, clone=True)
            if isinstance(part, group):
                yield from part.parts(group_id, root_id, freeze=freeze)
            elif not part.is_empty():
                yield part, part.freeze(group_id=group_id, root_id=root_id, group_index=index) if freeze else None

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
        """Set the ids of the group and its members; return the GroupResult."""
        options = self.options
        own_id: str = options.setdefault("task_id", str(uuid4()))
        given = {"group_id": group_id or None, "chord": chord or None, "group_index": group_index}
        options.update((name, value) for name, value in given.items() if value is not None)
        root_id = options.setdefault("root_id", root_id)
        parent_id = options.setdefault("parent_id", parent_id)
        # Flattened in Celery's order, which reverses the members of a nested group.
        pending, flat = list(reversed(self.tasks)), []
        while pending:
            task = maybe_signature(pending.pop(), self._app, clone=True)
            if isinstance(task, group):
                pending.extend(task.tasks)
            elif not task.is_empty():
                flat.append(task)
        results = [
            task.freeze(group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id, group_index=index)
            for index, task in enumerate(flat)
        ]
        self.tasks = flat
        return self.app.GroupResult(own_id, results)

    # -- changing --------------------------------------------------------------------------------------------

    def set_immutable(self, immutable: bool) -> None:
        """Set whether the members ignore further arguments."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Add a callback to the first member, which is called without the result.

        Returns it.
        """
        return self.tasks[0].link(signature(callback).set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Add an error callback to each member; return the members' copies as a tuple."""
        errback = maybe_signature(errback)
        return tuple(task.link_error(errback.clone()) for task in self.tasks)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Set increasing countdowns (in seconds) on the members.

        They start at ``start`` and increase by ``step``, up to ``stop``.
        """
        for number, task in zip(count(), self.tasks, strict=False):
            due = start + step * number
            task.set(countdown=due if stop is None else min(due, stop))
        return self

    # -- called on the parts of a canvas ---------------------------------------------------------------------

    def chord_size(self) -> int:
        """Return the sum of the members' sizes."""
        return sum(task.chord_size() for task in self.tasks)

    def is_empty(self) -> bool:
        """Return whether the group has no members."""
        return not self.tasks

    def leave_chord(self) -> None:
        """Remove the chord of the group and its members."""
        super().leave_chord()
        for task in self.tasks:
            task.leave_chord()

    def strip_headers(self) -> None:
        """Apply ``strip_headers`` to the members."""
        for task in self.tasks:
            task.strip_headers()

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"group({self.tasks!r})" if self.tasks else "group(<empty>)"


def _members(tasks: tuple[Any, ...], app: AppLike | None) -> list[Any]:
    """Return a new list of a group's members, from the arguments of its constructor."""
    if len(tasks) != 1:
        return [maybe_signature(task, app) for task in tasks]
    (only,) = tasks
    if isinstance(only, group):
        return list(only.tasks)
    if isinstance(only, dict):
        return [signature(only, app=app)]
    return [maybe_signature(task, app) for task in only or ()]


def _together(app: AppLike, producer: Any) -> AbstractContextManager[None]:
    """Wait for all confirms at the end of the block, instead of after each message.

    Does nothing in a worker's child, which never waits for confirms itself.
    """
    if producer is not None or current.in_worker_child() or app.pipelined:
        return nullcontext()
    return app.pipeline()
