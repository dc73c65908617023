"""When a child is spent, and how many may be replaced at once."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

#: Bytes that master, spawner and idle children need at least.
_LEAST_REST: Final = 128 * 1024 * 1024


@unique
class Verdict(IntEnum):
    """What a memory reading means."""

    KEEP = 0
    #: Replace it after its current task.
    RETIRE = 1
    #: Kill it in the middle of its task.
    KILL = 2


def judge_memory(rss_kib: int, *, limit: int | None, hard_limit: int | None) -> Verdict:
    """Compare a child's resident memory with its limits, all in KiB."""
    if hard_limit is not None and rss_kib > hard_limit:
        return Verdict.KILL
    if limit is not None and rss_kib > limit:
        return Verdict.RETIRE
    return Verdict.KEEP


def default_hard_limit(group_limit: int) -> int | None:
    """The hard limit of one child in KiB where none is set, by the memory that the worker's group may use, in bytes.

    A fifth of it, and at least 128 MiB, is left to the rest of the worker. None where that is more than half of it:
    children would then be killed for what any program uses.
    """
    rest = max(group_limit // 5, _LEAST_REST)
    return (group_limit - rest) // 1024 if rest <= group_limit // 2 else None


def at_once(concurrency: int) -> int:
    """How many children may recycle at one time: a quarter of them, and at least one."""
    return max(1, concurrency // 4)


def may_take(done: int, outstanding: int, max_tasks: int | None) -> int:
    """How many more tasks a child may be given before it is spent; a large number when unlimited."""
    if max_tasks is None:
        return 1 << 30
    return max(0, max_tasks - done - outstanding)
