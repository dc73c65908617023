"""When a child is spent, and how many may be replaced at once."""

from __future__ import annotations

from enum import IntEnum, unique


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


def at_once(concurrency: int) -> int:
    """How many children may recycle at one time: a quarter of them, and at least one."""
    return max(1, concurrency // 4)


def may_take(done: int, outstanding: int, max_tasks: int | None) -> int:
    """How many more tasks a child may be given before it is spent; a large number when unlimited."""
    if max_tasks is None:
        return 1 << 30
    return max(0, max_tasks - done - outstanding)
