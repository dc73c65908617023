"""The delivery tags of one channel: which are unsettled, and the fewest frames that settle the others.

Filled by the session for every batch of deliveries, told by the master which are settled, asked once a turn
of the loop for frames to send. Runs in the master; pure: no I/O, no clock, no frames. It must never let a
``multiple`` acknowledgement reach over a tag that is not settled, nor settle a tag twice.

Memory is bounded by the prefetch window: only unsettled tags and unsent settlements are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to send, in this order: ``returned`` (tag, requeue, penalty), ``upto`` with multiple, then
    ``singles``.

    ``returned`` come first because a multiple ack that was sent before them would acknowledge them too. The
    tag ``upto`` is always one that is itself being acknowledged: the broker refuses a multiple ack of a tag
    it no longer knows.
    """

    returned: tuple[tuple[int, bool, bool], ...] = ()
    upto: int = 0
    singles: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.upto or self.singles or self.returned)


_NOTHING = Settlement()


class AckLedger:
    """Tags of one channel. Tags grow by one for each delivery, in every queue of the channel."""

    __slots__ = ("_acked", "_floor", "_highest", "_open", "_returned")

    def __init__(self) -> None:
        #: Received and not settled by the master.
        self._open: set[int] = set()
        #: Settled by an ack that was not sent yet.
        self._acked: set[int] = set()
        self._returned: list[tuple[int, bool, bool]] = []
        #: Every tag up to here is settled.
        self._floor = 0
        self._highest = 0

    @property
    def outstanding(self) -> int:
        """How many deliveries the master has not settled."""
        return len(self._open)

    @property
    def waiting(self) -> bool:
        """Whether there are settlements that were not sent."""
        return bool(self._acked or self._returned)

    def received(self, first: int, last: int) -> None:
        """Note the deliveries ``first`` to ``last``. Raises ``ValueError`` when tags do not grow."""
        if not self._highest < first <= last:
            raise ValueError(f"delivery tags {first}..{last} after {self._highest}")
        if first == last:
            self._open.add(first)
        else:
            self._open.update(range(first, last + 1))
        self._highest = last

    def received_settled(self, first: int, last: int) -> None:
        """Note deliveries of a consumer without acknowledgements: they use up tags and nothing more."""
        if not self._highest < first <= last:
            raise ValueError(f"delivery tags {first}..{last} after {self._highest}")
        self._highest = last

    def ack(self, tag: int) -> bool:
        """Settle one tag; False when it is unknown or settled already."""
        if tag not in self._open:
            return False
        self._open.remove(tag)
        self._acked.add(tag)
        return True

    def give_back(self, tag: int, *, requeue: bool, penalty: bool) -> bool:
        """Reject one tag; False when it is unknown or settled already.

        ``penalty``: whether a quorum queue shall count this as a failed delivery (basic.reject) or not
        (basic.nack).
        """
        if tag not in self._open:
            return False
        self._open.remove(tag)
        self._returned.append((tag, requeue, penalty))
        return True

    def void(self, tags: Iterable[int]) -> None:
        """Forget tags whose messages the broker has taken back: nothing of them is ever sent.

        A ``multiple`` acknowledgement may pass over them later; the broker has nothing left to acknowledge there.
        """
        gone = set(tags)
        self._open -= gone
        self._acked -= gone
        self._returned = [item for item in self._returned if item[0] not in gone]

    def take(self, *, stragglers: bool) -> Settlement:
        """What to send now; it is forgotten here.

        Acks above an unsettled tag can only go out singly, so they are kept back, in the hope of the gap
        closing, until asked for with ``stragglers``.
        """
        acked = self._acked
        if not acked and not self._returned:
            return _NOTHING
        returned, self._returned = tuple(self._returned), []
        upto = self._raise_floor() if acked else 0
        singles: tuple[int, ...] = ()
        if stragglers and acked:
            singles = tuple(sorted(acked))
            acked.clear()
        return Settlement(returned, upto, singles)

    def _raise_floor(self) -> int:
        """Move the floor over settled tags.

        The highest acked one on the way (0: none), dropping those from _acked.
        """
        unsettled, acked = self._open, self._acked
        if not unsettled:
            self._floor = self._highest
            highest = max(acked)
            acked.clear()
            return highest
        tag = self._floor + 1
        highest = 0
        while tag not in unsettled:
            if tag in acked:
                acked.remove(tag)
                highest = tag
            tag += 1
        self._floor = tag - 1
        return highest
