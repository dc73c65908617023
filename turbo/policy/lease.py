"""Computes the lease of a delivery, and which deliveries are near its end.

Pure. ``master.delivery.leases`` supplies the time and the newest delivery tag, and moves what is due. The lease is the
broker's consumer timeout: a broker takes an unsettled message back when it has passed, whatever the task does. Source
of the rules: measurements on RabbitMQ 3.10.8, 4.0.5 and 4.3.6. It must never read a clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The argument of a queue, or of one consumer, that sets the lease in milliseconds.
TIMEOUT_ARGUMENT: Final = "x-consumer-timeout"
#: Versions from which the broker reads that argument of a queue, and of a consumer of a quorum queue.
_OF_QUEUES: Final = (3, 12)
_OF_CONSUMERS: Final = (4, 3)
#: The part of a lease after which a delivery is moved.
_RENEW_AT: Final = 0.5
#: Checks of the ages per lease, and the bounds of the time between two, in seconds.
_LOOKS: Final = 8
_SHORTEST_LOOK: Final = 0.25
_LONGEST_LOOK: Final = 60.0
#: Seconds added to a hard limit before the broker may take the message back.
_MARGIN: Final = 60.0


def length(
    queue: Mapping[str, object],
    consumer: Mapping[str, object],
    *,
    quorum: bool,
    version: tuple[int, ...],
    configured: float,
) -> float:
    """Return the lease of a queue's deliveries, in seconds, from its arguments.

    Those of the consumer count too. ``configured`` applies when the broker does not read the arguments, or there are
    none.
    """
    asked = consumer.get(TIMEOUT_ARGUMENT) if quorum and version >= _OF_CONSUMERS else None
    if asked is None and version >= _OF_QUEUES:
        asked = queue.get(TIMEOUT_ARGUMENT)
    if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        return asked / 1000
    return configured


def wanted_timeout(
    longest_hard_limit: float | None, *, quorum: bool, version: tuple[int, ...], configured: float
) -> int | None:
    """Return the consumer timeout to request in ms; None: the broker's suffices.

    ``longest_hard_limit``: the longest hard limit of any task; None when one has no limit. The timeout is twice that,
    so that a task ends before half of its lease and is never moved.
    """
    if longest_hard_limit is None or not quorum or version < _OF_CONSUMERS:
        return None
    seconds = 2 * (longest_hard_limit + _MARGIN)
    return int(seconds * 1000) if seconds > configured else None


def renewal_age(lease: float) -> float:
    """Return the age in seconds at which a delivery with this lease is moved."""
    return lease * _RENEW_AT


def look_interval(shortest_lease: float) -> float:
    """Return the seconds between two checks of the ages of deliveries."""
    return min(_LONGEST_LOOK, max(_SHORTEST_LOOK, shortest_lease / _LOOKS))


class AgeMarks:
    """Bounds the ages of deliveries by their tags.

    It needs one mark per check, not a clock reading per message.
    """

    def __init__(self, now: float, *, keep: float) -> None:
        """Start without deliveries.

        ``keep``: the largest age that is asked for, in seconds.
        """
        self._keep = keep
        self._tags = [0]
        self._times = [now]

    def note(self, newest_tag: int, now: float) -> None:
        """Record the newest tag received so far. Every later one is younger."""
        if newest_tag == self._tags[-1]:
            self._times[-1] = now
            return
        self._tags.append(newest_tag)
        self._times.append(now)
        useless = self._marks_of_age(self._keep, now) - 1
        if useless > 0:
            del self._tags[:useless], self._times[:useless]

    def newest_of_age(self, age: float, now: float) -> int:
        """Return the newest tag whose delivery may be ``age`` seconds old or older.

        0 when there is none.
        """
        later = self._marks_of_age(age, now)
        return 0 if later == 0 else self._tags[min(later, len(self._tags) - 1)]

    def most_age(self, tag: int, now: float) -> float:
        """Return the maximum age of the delivery ``tag`` in seconds."""
        before = bisect_left(self._tags, tag) - 1
        return now - self._times[max(0, before)]

    def _marks_of_age(self, age: float, now: float) -> int:
        # Ages are compared, not times: rounding may put ``now - age`` before a time whose age is exactly ``age``.
        return bisect_right(self._times, -age, key=lambda time: time - now)
