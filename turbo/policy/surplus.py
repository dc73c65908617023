"""Decides when messages go back that a worker prefetched beyond its own window.

Pure. ``master.window`` asks while messages wait. An adaptive window grows while tasks are short, so that the broker's
round trip costs nothing. When all children turn to long tasks, what was prefetched waits behind these, although another
worker may be free: it goes back to the broker, and the window returns to its own size. As long as the queue has more,
or no one else consumes it, nobody lacks these messages, and they stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: A task that has run this long, in nanoseconds, is a long one. A grown window covers about as much work.
LONG_NS: Final = 20_000_000


def all_long(now_ns: int, moved_ns: Iterable[int]) -> bool:
    """Return whether every child has been in its task for long.

    It is not so without children. ``moved_ns`` has the time of each child's last news, of a free child ``now_ns``.
    """
    newest = max(moved_ns, default=now_ns)
    return newest <= now_ns - LONG_NS


def exceeding(own: int, unsettled: Mapping[str, int]) -> list[str]:
    """Return the queues with more unsettled messages here than their own windows."""
    return [queue for queue, count in unsettled.items() if count > own]


def admitted(own: int, occupied: int, *, may_pause: bool) -> int:
    """Return the new consumers' window after a return; 0 means to pause them.

    ``occupied`` messages of the ``own`` window are still here from the old consumers. Where a consumer must stay, it
    admits one message at least.
    """
    return max(own - occupied, 0 if may_pause else 1)
