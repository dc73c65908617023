"""``chain``: calls in sequence, each with the result of the one before.

A subclass of ``Signature``. Sending a chain sends its first step, whose message contains the remaining steps; a worker
sends the next step when one returns. A group that is followed by a step becomes a chord. Runs in clients and children.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from turbo import states
from turbo.app.canvas.call_form import several
from turbo.app.canvas.chord import chord, first_ancestor
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature, folded_chain, maybe_signature
from turbo.app.publish.options import held_options
from turbo.result.eager import EagerResult
from turbo.result.group_result import chords_of
from turbo.result.joining import allow_join_result

if TYPE_CHECKING:
    from turbo.app.interfaces import AppLike

#: Options of a chain that do not apply to its first step.
_OF_CHAIN = frozenset({"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"})


@Signature.register_type("chain")
class chain(Signature):
    """Calls in sequence: ``chain(add.s(2, 2), add.s(4))``, or joined by ``|``.

    A single argument that is not a call is an iterable of calls. Like ``|``, the constructor may return another class:
    a group followed by a call becomes a chord. Calling a chain sends it; the result is that of the last step, and its
    ``parent`` that of the step before.
    """

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        """Return the signature that the calls reduce to when only calls are given."""
        if options or not tasks or (len(tasks) == 1 and not _holds_several(tasks[0])):
            return super().__new__(cls)
        folded = folded_chain(tasks[0] if len(tasks) == 1 else tasks)
        if cls is not chain and isinstance(folded, chain) and not isinstance(folded, cls):
            made = super().__new__(cls)
            made.__init__(folded.tasks, app=folded.given_app)  # type: ignore[misc]
            return made
        return folded

    def __init__(self, *tasks: Any, app: AppLike | None = None, **options: Any) -> None:
        if self:
            # __new__ returned an initialized chain, and Python calls __init__ again.
            return
        steps = list(tasks[0]) if len(tasks) == 1 and _holds_several(tasks[0]) else list(tasks)
        options.pop("use_link", None)
        super().__init__(
            "celery.chain", (), {"tasks": [maybe_signature(step, app) for step in steps]}, options,
            subtask_type="chain", app=app,
        )  # fmt: skip

    @classmethod
    def of(cls, steps: Iterable[Any], app: AppLike | None = None) -> Self:
        """Make a chain of exactly these steps, without reducing them."""
        made: Self = Signature.__new__(cls)
        chain.__init__(made, list(steps), app=app)
        return made

    def copy_parts(self) -> None:
        """Replace the steps by copies."""
        own = [maybe_signature(task, self._app, clone=True) for task in self.kwargs["tasks"] or ()]
        self.kwargs = {**self.kwargs, "tasks": own}

    @property
    def tasks(self) -> list[Any]:
        """The steps."""
        tasks: list[Any] = self.kwargs["tasks"]
        return tasks

    @tasks.setter
    def tasks(self, value: Iterable[Any]) -> None:
        self.kwargs["tasks"] = list(value)

    def own_app(self) -> AppLike | None:
        """Return the given app, or that of the first step."""
        return self._app if self._app is not None or not self.tasks else self.tasks[0].own_app()

    def unchain_tasks(self) -> list[Any]:
        """Return copies of the steps, with the chain's callbacks and error callbacks."""
        steps = [step.clone() for step in self.tasks]
        for callback in several(self.options.get("link")) if steps else ():
            steps[-1].link(callback)
        for errback in several(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        return steps

    # -- sending ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the chain; arguments are put before those of the first step."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """Send the first step.

        Returns the result of the last step, or None for an empty chain. ``task_id``, ``link`` and ``chord``
        apply to the last step, ``link_error`` to every step, other options to the first step.
        """
        if self.app.conf["task_always_eager"]:
            with allow_join_result():
                return self.apply(args, kwargs, **options)
        given = {name: value for name, value in options.items() if value is not None}
        with held_options(self.options):
            return self.run(args, kwargs, **{**self.options, **given})

    def run(
        self,
        args: Any = None,
        kwargs: Any = None,
        group_id: str | None = None,
        chord: Any = None,
        task_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        app: AppLike | None = None,
        group_index: int | None = None,
        **options: Any,
    ) -> Any:
        """Implement :meth:`apply_async`. ``parent_id`` is ignored: sending sets it."""
        args = (*(args or ()), *self.args) if args and not self.immutable else self.args
        steps, _ = _groups_to_chords([step.clone() for step in self._flat(split=True)], root_id)
        results = self._freeze_steps(steps, link_error, root_id, task_id, group_id, chord, group_index)
        if not results:
            return None
        for step in steps:
            step.strip_headers()
        if link:
            steps[-1].extend_list_option("link", link)
        first, rest = steps[0], steps[:0:-1]
        options["chain"] = [*rest] if options.get("chain") is None else [*options["chain"], *rest]
        result = first.apply_async(args, kwargs, **options)
        return results[-1] if rest else result

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run the steps in this process, in order; return the last result."""
        options = {**self.options, **options}
        link = options.pop("link", None)
        steps = [step.clone() for step in self.tasks if not (isinstance(step, group) and step.is_empty())]
        steps = steps or [step.clone() for step in self.tasks[-1:]]
        if link and steps:
            last = steps[-1].body if isinstance(steps[-1], chord) else steps[-1]
            last.extend_list_option("link", link)
        result: Any = None
        for step in steps:
            if result is not None:
                args, kwargs = (result.get(disable_sync_subtasks=False),), None
            before, result = result, step.apply(args, kwargs, **options)
            result.parent = before
            if isinstance(result, EagerResult) and result.state in (states.IGNORED, states.REJECTED):
                break
        return result

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
        """Set the ids of the steps; return the result of the last."""
        steps, made = _groups_to_chords(self._flat(split=False), root_id)
        results = self._freeze_steps(steps, None, root_id, _id, group_id, chord, group_index)
        for step, of in made:
            # Sending the chain makes the chord again from the group, whose calls now have their ids.
            of.tasks = step.tasks.tasks
        self.id = results[-1].id if results else _id
        return results[-1]

    def _flat(self, *, split: bool) -> list[Any]:
        """Return the steps with nested chains flattened.

        Groups of one call are unwrapped, and empty groups removed. ``split`` moves the remaining steps of a chain out
        of the bodies of chords. A chain that consists only of empty groups keeps one of them, so that it has a result.
        """
        pending, flat, empty = deque(self.tasks), [], []
        while pending:
            step = maybe_signature(pending.popleft(), self._app)
            if isinstance(step, chain):
                pending.extendleft(reversed(step.unchain_tasks() if split else step.tasks))
            elif isinstance(step, group) and len(step.tasks) == 1:
                pending.appendleft(step.tasks[0])
            elif isinstance(step, group) and not step.tasks:
                empty.append(step)
            elif split and isinstance(step, chord) and _starts_with_call(step.body):
                pending.extendleft(reversed(_split(step)))
            else:
                flat.append(step)
        return flat or empty[-1:]

    def _freeze_steps(
        self,
        steps: list[Any],
        link_error: Any,
        root_id: str | None,
        task_id: str | None,
        group_id: str | None,
        body: Any,
        group_index: int | None,
    ) -> list[Any]:
        """Freeze the steps from last to first and set the parents of their results.

        Returns the results in order. A chain in a group or chord has ended when its last step has, so only that
        step gets the group's ids.
        """
        if any(isinstance(step, chord) for step in steps):
            chords_of(self.app.backend)
        results: list[Any] = []
        for step in reversed(steps):
            if results:
                result = step.freeze(root_id=root_id)
                after = first_ancestor(results[-1])
                if after is not result:
                    after.parent = result
            else:
                result = step.freeze(
                    task_id, root_id=root_id, group_id=group_id, chord=body, group_index=group_index
                )  # fmt: skip
            for errback in several(link_error):
                step.link_error(errback)
            results.append(result)
        return results[::-1]

    def split_bodies(self) -> None:
        """Move the steps after a chord's body into the chain, out of each body."""
        pending, steps = deque(self.tasks), []
        while pending:
            step = pending.popleft()
            if isinstance(step, chain):
                step = step.clone()
                step.split_bodies()
            if isinstance(step, chord) and _starts_with_call(step.body):
                pending.extendleft(reversed(_split(step)))
            else:
                steps.append(step)
        self.tasks = steps

    # -- called on the parts of a canvas ---------------------------------------------------------------------

    def chord_size(self) -> int:
        """Return the size of the last step whose size is not 0."""
        return next((found for step in reversed(self.tasks) if (found := step.chord_size())), 0)

    def is_empty(self) -> bool:
        """Return whether the chain has no steps."""
        return not self.tasks

    def leave_chord(self) -> None:
        """Remove the chord of the last step."""
        super().leave_chord()
        for step in self.tasks[-1:]:
            step.leave_chord()

    def strip_headers(self) -> None:
        """Apply ``strip_headers`` to the steps."""
        for step in self.tasks:
            step.strip_headers()

    def __repr__(self) -> str:
        return " | ".join(repr(step) for step in self.tasks) or f"<{type(self).__name__}@{id(self):#x}: empty>"


def _holds_several(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (dict, str, bytes))


def _starts_with_call(body: Any) -> bool:
    """Return whether a chord's body is a chain that starts with a call.

    Its other steps can leave the body.
    """
    return isinstance(body, chain) and bool(body.tasks) and not isinstance(body.tasks[0], group)


def _split(step: chord) -> list[Any]:
    """Return a chord with only its body's first step, then the other steps."""
    step = step.clone()  # type: ignore[assignment]
    first, *rest = step.body.unchain_tasks()
    step.body = first.clone(**{name: each for name, each in step.body.options.items() if name not in _OF_CHAIN})
    return [step, *rest]


def _groups_to_chords(steps: list[Any], root_id: str | None) -> tuple[list[Any], list[tuple[chord, group]]]:
    """Turn each group before a step into a chord with that step as its body.

    Return the new steps, and pairs of each new chord with its group.
    """
    done: list[Any] = []
    made: list[tuple[chord, group]] = []
    for step in reversed(steps):
        if isinstance(step, group) and done:
            made.append((chord(step, body=done.pop(), app=step.own_app(), root_id=root_id), step))
            step = made[-1][0]
        done.append(step)
    return done[::-1], made
