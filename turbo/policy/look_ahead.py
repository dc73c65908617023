"""Limits the unstarted messages of a busy child, and estimates a task's run time.

``master.delivery.dispatcher`` chooses the next child: a free child gets a message before a busy one gets a second. It
asks this module how many more a busy child may hold. Unstarted messages can be taken back, so these figures save round
trips and must never decide which task waits for which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

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

#: Work that a child is given before another is woken, in nanoseconds, if there are more children than processors.
BATCH_NS: Final = 200_000

#: Most records of that kind: they wait a few milliseconds if the first turns out to be long.
MAX_BATCH: Final = 16
#: How long after the child's last news a batch may still grow, in nanoseconds: two batches' time. After that the child
#: runs something long or waits for a processor.
GROWING_NS: Final = 500_000
#: How long a batch may wait for its child to begin it, in nanoseconds.
UNBEGUN_NS: Final = 50_000_000

_WEIGHT: Final = 16
#: A sample counts as at most this multiple of the estimate, so that one slow task in a hundred does not
#: end the look-ahead for the ninety-nine fast ones.
_CLIP: Final = 8
#: The least estimate: one of a nanosecond or two could not grow again, since the clipped
#: sample's share rounds to nothing.
_LEAST: Final = 1_000


def estimate(previous_ns: int, *samples_ns: int) -> int:  # hot: bench drain
    """Fold run times into the moving estimate, one after the other.

    It is exponential with weight 1/16, and samples are clipped. ``previous_ns`` is 0 before the first sample.
    """
    for sample_ns in samples_ns:
        if previous_ns == 0:
            previous_ns = sample_ns
        elif sample_ns > previous_ns * _CLIP:
            previous_ns += previous_ns * (_CLIP - 1) // _WEIGHT
        else:
            previous_ns += (sample_ns - previous_ns) // _WEIGHT
        if previous_ns < _LEAST:
            previous_ns = _LEAST
    return previous_ns


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


def typical(previous_ns: int, sample_ns: int) -> int:
    """Fold one run time into a moving median. ``previous_ns`` is 0 before the first.

    The mean says nothing of short tasks while processors are scarce: some wait for one in the middle.
    """
    if previous_ns == 0:
        return max(sample_ns, _LEAST)
    step = previous_ns // _WEIGHT
    return previous_ns + step if sample_ns > previous_ns else max(previous_ns - step, _LEAST)


def batch(typical_ns: int) -> int:
    """Return how many records a child gets before another child is woken.

    For more children than processors: then waking another does not make short tasks end earlier. ``typical_ns`` is 0
    before the first run time.
    """
    if typical_ns == 0:
        return 1
    return min(1 + BATCH_NS // typical_ns, MAX_BATCH)


def grows(held: int, size: int, age_ns: int) -> bool:
    """Return whether a busy child gets more of a batch while others are free.

    It holds ``held`` of ``size`` records, and its last news came ``age_ns`` nanoseconds ago.
    """
    return held < size and age_ns <= GROWING_NS


def is_overdue(age_ns: int, *, in_batches: bool, begun: bool) -> bool:
    """Return whether nothing more may be put behind a child's first record.

    Its last news came ``age_ns`` nanoseconds ago. If tasks come ``in_batches``, a child that has not ``begun`` its
    first waits for a processor, and so would another.
    """
    return age_ns > (UNBEGUN_NS if in_batches and not begun else STALL_NS)


def gives_back(age_ns: int, *, to_a_free_child: bool) -> bool:
    """Return whether an overdue child's unstarted records go to another child.

    That is free, or has room. The overdue child's last news came ``age_ns`` nanoseconds ago.
    """
    return age_ns > (STALL_NS if to_a_free_child else LONG_NS)


class BatchSize:
    """The size of batches for the messages of one worker."""

    def __init__(self, processors: int) -> None:
        self.processors = processors
        self._typical_ns = 0
        self._needed = False
        #: Records that a child gets before another is woken.
        self.batch = 1

    def ended(self, runtimes_ns: Iterable[int]) -> None:
        """Note the run times of tasks, if there are more children than processors."""
        if self._needed:
            for runtime_ns in runtimes_ns:
                self._typical_ns = typical(self._typical_ns, runtime_ns)

    def begin(self, spared: int) -> int:
        """Return the size for the next messages.

        ``spared``: how many more children than processors there are.
        """
        self._needed = spared > 0
        self.batch = batch(self._typical_ns) if self._needed else 1
        return self.batch


def lasts(ahead: int, estimate_ns: int, children: int, pause_ns: int) -> bool:
    """Return whether the records held ahead keep all children busy for a pause.

    ``ahead`` is their number over all ``children``, ``pause_ns`` the pause in nanoseconds.
    """
    return ahead * estimate_ns >= max(children, 1) * pause_ns
