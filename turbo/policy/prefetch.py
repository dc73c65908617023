"""The prefetch window: how many unacknowledged messages to have here.

Pure. ``master.window`` feeds it measurements and carries out what it says by swapping the consumer
(``amqp.consume.link.BrokerLink.set_prefetch``). Ceilings come from measurements: a classic queue's rate is flat from 64
on, a quorum queue's still grows to 512 and beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CEILING_CLASSIC: Final = 256
CEILING_QUORUM: Final = 512
#: Seconds of work that the window covers, to hide the broker's round trip.
COVER: Final = 0.02
#: Longest run time, in seconds, for which the window grows: beyond it the round trip costs little.
SHORT: Final = 0.005
#: Least seconds between two swaps. On quorum queues each swap returns some never-seen messages with the
#: redelivered flag set, so they are rarer there.
PAUSE_CLASSIC: Final = 1.0
PAUSE_QUORUM: Final = 10.0
#: The window shrinks only when tasks have been long for this many seconds, and grows only when no moment in as many
#: found every child in a long task (``policy.surplus``).
HOLD_OFF: Final = 5.0
#: The protocol counts the window in 16 bits.
_MOST: Final = 65_535


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """The measurements behind the decision. Times in seconds, sizes in bytes."""

    current: int
    floor: int
    ceiling: int
    #: Moving estimate of a task's run time; 0 when unknown.
    runtime: float
    concurrency: int
    #: Messages held for their ETA or a rate limit, which fill the window without being work; the most of them for which
    #: it is widened; and all other messages here.
    held: int
    most_held: int
    others: int
    #: Mean bytes of a message, and the most bytes that all of them may take.
    message_size: int
    byte_budget: int
    #: Seconds since the last swap, and since the rule last wanted at least the current window.
    since_swap: float
    since_wanted: float
    pause: float
    #: True before the first swap: the window may then jump to its goal at once.
    first: bool
    #: The number of children has changed since the window was set for it: the window may jump to its goal.
    resized: bool = False
    #: Seconds since every child was in a long task.
    since_long: float = HOLD_OFF
    #: Places for the messages of batches beside the first of each, and for batches that are being collected.
    batch_room: int = 0


def goal(facts: WindowFacts) -> int:
    """Return the window for the measured run times, before any pacing."""
    if facts.runtime <= 0 or facts.runtime > SHORT or facts.since_long < HOLD_OFF:
        wanted = facts.floor
    else:
        # Bounded before rounding: a tiny run time gives infinity.
        wanted = int(min(facts.concurrency * (COVER / facts.runtime), _MOST)) + facts.concurrency
    most = max(facts.ceiling, facts.floor)
    if facts.message_size > 0:
        most = max(facts.floor, min(most, facts.byte_budget // facts.message_size))
    wanted = max(facts.floor, min(wanted, most))
    room = most if _is_blocked(facts, wanted) else wanted
    return min(room + min(facts.held, facts.most_held) + facts.batch_room, _MOST)


def own(facts: WindowFacts) -> int:
    """Return the app's own window, with room for held messages and batches."""
    return min(facts.floor + min(facts.held, facts.most_held) + facts.batch_room, _MOST)


def _is_blocked(facts: WindowFacts, wanted: int) -> bool:
    """Return whether held messages fill the window and leave little work.

    More held ones may be next in the queue, with work behind them. Then the window grows by as much as it may.
    """
    full = facts.held + facts.others >= facts.current
    return full and 0 < facts.held < facts.most_held and facts.others * 2 < wanted


def next_window(facts: WindowFacts) -> int:
    """Return the window to use now; ``facts.current`` means no change.

    The window grows by doubling, except that the first step may reach the goal at once. It shrinks directly to the
    goal, after a hold-off. Room for held messages is made at once. After a change of the number of children, it goes to
    the goal at once in both directions.
    """
    wanted = goal(facts)
    if wanted == facts.current:
        return facts.current
    if not facts.first and facts.since_swap < facts.pause:
        return facts.current
    if wanted > facts.current:
        if facts.first or facts.held or facts.batch_room or facts.resized:
            return wanted
        return min(wanted, facts.current * 2)
    if facts.resized:
        return wanted
    # A window that is only a little too wide is not worth a swap.
    if wanted * 2 > facts.current or facts.since_wanted < HOLD_OFF:
        return facts.current
    return wanted
