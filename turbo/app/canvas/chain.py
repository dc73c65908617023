"""``chain``: calls that run one after the other, each with the result of the one before.

A kind of ``app.canvas.signature``. Sending one sends its first step, which takes the others along in its message: a
worker sends the next when one returns. A group that something follows becomes a chord on the way. Runs in clients and
children.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from turbo import states
from turbo.app.canvas.call_form import several
from turbo.app.canvas.chord import chord, first_of
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature, folded_chain, maybe_signature
from turbo.app.publish.options import held_options
from turbo.result.eager import EagerResult
from turbo.result.group_result import chords_of
from turbo.result.joining import allow_join_result

if TYPE_CHECKING:
    from turbo.app.base import Turbo

#: Options of a chain that are not its first step's.
_OF_CHAIN = frozenset({"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"})


@Signature.register_type("chain")
class chain(Signature):
    """Calls that follow one another: ``chain(add.s(2, 2), add.s(4))``, which is ``add.s(2, 2) | add.s(4)``.

    A single argument that is no call holds the calls. Like ``|``, it makes what the calls come to: a group and a call
    are a chord. Calling it sends it; the result is that of the last step, its ``parent`` that of the one before.
    """

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        """Return what the calls come to, where only calls are given."""
        if options or not tasks or (len(tasks) == 1 and not _holds_several(tasks[0])):
            return super().__new__(cls)
        folded = folded_chain(tasks[0] if len(tasks) == 1 else tasks)
        if cls is not chain and isinstance(folded, chain) and not isinstance(folded, cls):
            made = super().__new__(cls)
            made.__init__(folded.tasks, app=folded.given_app)  # type: ignore[misc]
            return made
        return folded

    def __init__(self, *tasks: Any, app: Turbo | None = None, **options: Any) -> None:
        if self:
            # Folded by __new__, after which Python comes here all the same.
            return
        steps = list(tasks[0]) if len(tasks) == 1 and _holds_several(tasks[0]) else list(tasks)
        options.pop("use_link", None)
        super().__init__(
            "celery.chain", (), {"tasks": [maybe_signature(step, app) for step in steps]}, options,
            subtask_type="chain", app=app,
        )  # fmt: skip

    @classmethod
    def of(cls, steps: Iterable[Any], app: Turbo | None = None) -> Self:
        """Make one of these very steps, whatever they come to."""
        made: Self = Signature.__new__(cls)
        chain.__init__(made, list(steps), app=app)
        return made

    def own_parts(self) -> None:
        """Have steps of its own."""
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

    def own_app(self) -> Turbo | None:
        """The app that it was made with, or its first step's."""
        return self._app if self._app is not None or not self.tasks else self.tasks[0].own_app()

    def unchain_tasks(self) -> list[Any]:
        """Return copies of the steps with the chain's callbacks at the last and its error callbacks at each."""
        steps = [step.clone() for step in self.tasks]
        for callback in several(self.options.get("link")) if steps else ():
            steps[-1].link(callback)
        for errback in several(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        return steps

    # -- sending ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it; arguments go before those of the first step."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """Send the first step; return the result of the last, None for an empty chain.

        ``task_id``, ``link`` and ``chord`` are the last step's, ``link_error`` is every step's, other options are the
        first step's.
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
        app: Turbo | None = None,
        group_index: int | None = None,
        **options: Any,
    ) -> Any:
        """Do what :meth:`apply_async` says. ``parent_id`` is the sending task's own affair."""
        args = (*(args or ()), *self.args) if args and not self.immutable else self.args
        steps, _ = _chords_made([step.clone() for step in self._flat(split=True)], root_id)
        results = self._settle(steps, link_error, root_id, task_id, group_id, chord, group_index)
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
        """Run the steps here, one after the other; return the result of the last."""
        options = {**self.options, **options}
        link = options.pop("link", None)
        steps = [step.clone() for step in self.tasks if not (isinstance(step, group) and step.runs_nothing())]
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

    # -- settling --------------------------------------------------------------------------------------------

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Settle the ids of the steps; return the result of the last."""
        steps, made = _chords_made(self._flat(split=False), root_id)
        results = self._settle(steps, None, root_id, _id, group_id, chord, group_index)
        for step, of in made:
            # The chord is made again when the chain is sent, of calls that have their ids.
            of.tasks = step.tasks.tasks
        self.id = results[-1].id if results else _id
        return results[-1]

    def _flat(self, *, split: bool) -> list[Any]:
        """Return the steps with chains in it taken apart, groups of one call as that call, and no empty groups.

        ``split`` takes the rest of a chain out of the bodies of chords. Of a chain of nothing but empty groups one is
        left, so that it has a result.
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
            elif split and isinstance(step, chord) and _leads_on(step.body):
                pending.extendleft(reversed(_split(step)))
            else:
                flat.append(step)
        return flat or empty[-1:]

    def _settle(
        self,
        steps: list[Any],
        link_error: Any,
        root_id: str | None,
        task_id: str | None,
        group_id: str | None,
        body: Any,
        group_index: int | None,
    ) -> list[Any]:
        """Freeze steps from the last to the first and tie their results together; return the results in order.

        A chain in a group or chord is done when its last step is.
        """
        if any(isinstance(step, chord) for step in steps):
            chords_of(self.app.backend)
        results: list[Any] = []
        for step in reversed(steps):
            if results:
                result = step.freeze(root_id=root_id)
                after = first_of(results[-1])
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
        """Put what follows a chord into the chain, not into the chord's body, of which each part has a copy."""
        pending, steps = deque(self.tasks), []
        while pending:
            step = pending.popleft()
            if isinstance(step, chain):
                step = step.clone()
                step.split_bodies()
            if isinstance(step, chord) and _leads_on(step.body):
                pending.extendleft(reversed(_split(step)))
            else:
                steps.append(step)
        self.tasks = steps

    # -- being part of something -----------------------------------------------------------------------------

    def ends(self) -> int:
        """Those of the last step that has any."""
        return next((found for step in reversed(self.tasks) if (found := step.ends())), 0)

    def runs_nothing(self) -> bool:
        """Whether it has no steps."""
        return not self.tasks

    def leave_chord(self) -> None:
        """Its last step reports to nobody."""
        super().leave_chord()
        for step in self.tasks[-1:]:
            step.leave_chord()

    def strip_headers(self) -> None:
        """Of the chords among its steps."""
        for step in self.tasks:
            step.strip_headers()

    def __repr__(self) -> str:
        return " | ".join(repr(step) for step in self.tasks) or f"<{type(self).__name__}@{id(self):#x}: empty>"


def _holds_several(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (dict, str, bytes))


def _leads_on(body: Any) -> bool:
    """Whether a chord's body is a chain that begins with a call: what comes after that need not be in the body."""
    return isinstance(body, chain) and bool(body.tasks) and not isinstance(body.tasks[0], group)


def _split(step: chord) -> list[Any]:
    """Return a chord with the first step of its body, and the other steps."""
    step = step.clone()  # type: ignore[assignment]
    first, *rest = step.body.unchain_tasks()
    step.body = first.clone(**{name: each for name, each in step.body.options.items() if name not in _OF_CHAIN})
    return [step, *rest]


def _chords_made(steps: list[Any], root_id: str | None) -> tuple[list[Any], list[tuple[chord, group]]]:
    """Make a chord of each group that something follows, with that as its body.

    Return the steps, and what was made of what.
    """
    done: list[Any] = []
    made: list[tuple[chord, group]] = []
    for step in reversed(steps):
        if isinstance(step, group) and done:
            made.append((chord(step, body=done.pop(), app=step.own_app(), root_id=root_id), step))
            step = made[-1][0]
        done.append(step)
    return done[::-1], made
