"""Implements ``first | second`` for calls, chains, groups and chords.

The same rules apply to ``chain(…)``, which applies the operator between all its arguments. New signatures are made from
copies; nothing is sent.

| first | second | result |
|---|---|---|
| anything | a group of one | ``first | member``, with the group's only member |
| a group | an empty group | ``first`` |
| a group | anything else | a chord with ``second`` as its body |
| a chord | a call, map or chord | the chord with ``body | second`` as its body |
| a call or chord | a chain or group | a chain of ``first`` and ``second`` |
| a call | a call, map or chord | a chain of both |
| a chain | anything | a chain of its steps, the last joined to ``second`` by the rules above |
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from turbo.app.canvas.chain import chain
from turbo.app.canvas.chord import chord
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterable


def follow(first: Signature, second: Signature) -> Any:
    """Return ``first | second``."""
    if isinstance(first, group):
        return first if _is_empty(second) else chord(first, body=second, app=first.given_app)
    if isinstance(first, chain):
        return first if _is_empty(second) else _longer(first, second)
    alone = isinstance(second, group) and len(second.tasks) == 1
    second = second.unrolled() if isinstance(second, group) else second
    if isinstance(first, chord) and (alone or not isinstance(second, (chain, group))):
        return _with_body(first.clone(), second)
    steps = second.unchain_tasks() if isinstance(second, chain) else [second]
    return chain.of([first, *steps], app=first.given_app)


def fold(tasks: Iterable[Any]) -> Any:
    """Return ``chain() | first | second | …`` in one pass."""
    return _joined(chain, None, tasks)


def _longer(first: chain, second: Signature) -> Any:
    """Return ``first | second`` for a chain ``first``.

    The chain's callbacks move to its present steps, not to ``second``; its other options are dropped. If the last step
    absorbs ``second`` (as a chord's body), the chain keeps its options.
    """
    if first.options and isinstance(second, chain):
        return reduce(or_, second.unchain_tasks(), first)
    second = second.unrolled() if isinstance(second, group) else second
    last = first.tasks[-1] if first.tasks else None
    taken_in = isinstance(last, group) or (isinstance(last, chord) and not isinstance(second, chord))
    if first.options and taken_in and not isinstance(second, (chain, group)):
        made = first.clone()
        assert isinstance(made, chain)
        _join(made.tasks, second)
        return made
    return _joined(type(first), first, [second])


def _joined(kind: type[chain], first: chain | None, tasks: Iterable[Any]) -> Any:
    """Join ``tasks`` to the chain ``first``.

    ``kind`` is the class of the result if that is a chain. Raises TypeError for an item that is not a signature.
    """
    app = None if first is None else first.given_app
    steps: list[Any] = [] if first is None else first.unchain_tasks()
    pending = list(tasks)[::-1]
    while pending:
        task = pending.pop()
        if not isinstance(task, Signature):
            raise TypeError(f"a chain consists of signatures, not of {type(task).__name__}")
        if isinstance(task, chain):
            pending.extend(reversed(task.unchain_tasks()))
        elif isinstance(task, group) and not _is_empty(task):
            only = task.unrolled()
            if not isinstance(only, group):
                pending.append(only)
            elif steps:
                _join(steps, only)
            else:
                # The chain starts with this group: it is not a step, and the calls that follow turn it into a chord.
                return reduce(or_, reversed(pending), only)
        elif not _is_empty(task):
            _join(steps, task)
    return kind.of(steps, app=app)


def _join(steps: list[Any], task: Signature) -> None:
    """Join one call, group or chord to the steps of a chain.

    The last step may absorb it as a chord's body.
    """
    last = steps[-1] if steps else None
    if isinstance(last, group) and not isinstance(task, group):
        steps[-1] = chord(last, body=task, app=last.given_app)
        if len(steps) > 1 and isinstance(steps[-2], chord):
            made = steps.pop()
            _with_body(steps[-1], made)
    elif isinstance(last, chord) and not isinstance(task, chord):
        _with_body(last, task)
    else:
        steps.append(task)


def _with_body(step: Any, task: Signature) -> Any:
    step.body = step.body | task
    return step


def _is_empty(task: Signature) -> bool:
    return isinstance(task, group) and not task.tasks
