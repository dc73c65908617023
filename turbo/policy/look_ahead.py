"""Limits the unstarted messages of a busy child, and estimates a task's run time.

``master.delivery.dispatcher`` chooses the next child: a free child gets a message before a busy one gets a second. It
asks this module how many more a busy child may hold. Unstarted messages can be taken back, so these figures save round
trips and must never decide which task waits for which.
"""

from __future__ import annotations

from typing import Final

#: Work that a child may hold ahead, in nanoseconds of expected run time: several round trips to the master.
LOOK_AHEAD_NS: Final = 2_000_000
#: Most records in one child's ring, whatever the estimate: taking them back must stay cheap.
MAX_DEPTH: Final = 64
#: Up to this run time one task is held ahead although it exceeds LOOK_AHEAD_NS: the round trip that it hides
#: is still a few per cent of the task.
ONE_AHEAD_NS: Final = 20_000_000
#: Nothing waits behind a task that has run this long.
STALL_NS: Final = 4_000_000
#: What waits behind a task that has run this long goes even to a busy child that has room.
LONG_NS: Final = 20_000_000

_WEIGHT: Final = 16
#: A sample counts as at most this multiple of the estimate, so that one slow task in a hundred does not
#: end the look-ahead for the ninety-nine fast ones.
_CLIP: Final = 8
#: The least estimate: one of a nanosecond or two could not grow again, since the clipped
#: sample's share rounds to nothing.
_LEAST: Final = 1_000


def estimate(previous_ns: int, sample_ns: int) -> int:
    """Fold one run time into the moving estimate.

    It is exponential with weight 1/16, and samples are clipped. ``previous_ns`` is 0 before the first sample.
    """
    if previous_ns == 0:
        return max(sample_ns, _LEAST)
    if sample_ns > previous_ns * _CLIP:
        sample_ns = previous_ns * _CLIP
    return max(previous_ns + (sample_ns - previous_ns) // _WEIGHT, _LEAST)


def depth(estimate_ns: int) -> int:
    """Return how many records a child may hold, the running one included.

    1 without an estimate.
    """
    if estimate_ns == 0 or estimate_ns > ONE_AHEAD_NS:
        return 1
    ahead = LOOK_AHEAD_NS // estimate_ns
    if ahead < 1:
        return 2
    return min(1 + ahead, MAX_DEPTH)


def lasts(ahead: int, estimate_ns: int, children: int, pause_ns: int) -> bool:
    """Return whether the records held ahead keep all children busy for a pause.

    ``ahead`` is their number over all ``children``, ``pause_ns`` the pause in nanoseconds.
    """
    return ahead * estimate_ns >= children * pause_ns
