"""Decides when a child must be replaced, and how many may be replaced at once.

Pure. ``master.children.recycling`` measures the children and acts on the decisions, in the master. It must never
measure anything itself.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

#: Minimum bytes that master, spawner and idle children need.
_LEAST_REST: Final = 128 * 1024 * 1024


@unique
class MemoryAction(IntEnum):
    """The decision from a memory reading."""

    KEEP = 0
    #: Replace it after its current task.
    RETIRE = 1
    #: Kill it in the middle of its task.
    KILL = 2


def memory_action(rss_kib: int, *, limit: int | None, hard_limit: int | None) -> MemoryAction:
    """Compare a child's resident memory with its limits, all in KiB."""
    if hard_limit is not None and rss_kib > hard_limit:
        return MemoryAction.KILL
    if limit is not None and rss_kib > limit:
        return MemoryAction.RETIRE
    return MemoryAction.KEEP


def default_hard_limit(group_limit: int) -> int | None:
    """Return the default hard limit of a child in KiB, from the group's limit.

    That is in bytes. A fifth of the group's memory, and at least 128 MiB, is left to the rest of the worker. None if
    that rest would be more than half of the group's memory: children would then be killed for what any program uses.
    """
    rest = max(group_limit // 5, _LEAST_REST)
    return (group_limit - rest) // 1024 if rest <= group_limit // 2 else None


def at_once(concurrency: int) -> int:
    """Return how many children may be replaced at once: a quarter, at least one."""
    return max(1, concurrency // 4)


def may_take(done: int, outstanding: int, max_tasks: int | None, places: int | None = None) -> int:
    """Return how many more tasks a child may get; a large number when unlimited.

    ``places``: how many it may hold at once.
    """
    by_places = 1 << 30 if places is None else places - outstanding
    by_tasks = 1 << 30 if max_tasks is None else max_tasks - done - outstanding
    return max(0, min(by_places, by_tasks))
