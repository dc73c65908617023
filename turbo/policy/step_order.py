"""Orders bootsteps: each after those that it requires. Pure.

Used by ``native.steps`` and ``adopted.steps``, which know the names. A step that requires what is not there has no
place in the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Set

S = TypeVar("S", bound="Hashable")
Name = TypeVar("Name", bound="Hashable")


def in_order(
    steps: Iterable[S], name: Callable[[S], Name], required: Callable[[S], Set[Name]], there: Set[Name]
) -> list[S]:
    """Return the steps that can run, each after those that it requires.

    ``there`` are those that run anyway.
    """
    waiting = list(steps)
    ordered: list[S] = []
    running = set(there)
    while True:
        ready = [step for step in waiting if required(step) <= running]
        if not ready:
            return ordered
        ordered += ready
        waiting = [step for step in waiting if step not in ready]
        running.update(name(step) for step in ready)
