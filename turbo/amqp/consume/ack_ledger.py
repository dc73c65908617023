"""The unsettled delivery tags of one channel, and the frames that settle others.

They are as few frames as possible.

The session adds the tags of every batch of deliveries and asks for frames once per pass of the event loop; the master
marks tags as settled. Runs in the master; pure: no I/O, no clock. It must never let a ``multiple``
acknowledgement cover an unsettled tag, nor settle a tag twice.

The prefetch window bounds the memory: only unsettled tags and unsent settlements are kept. The frames are those of
AMQP 0-9-1 (Basic.Ack 60.80, Basic.Reject 60.90) and RabbitMQ's Basic.Nack (60.120).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: type, channel, size, class, method, delivery tag, bits, end: all three methods have this shape.
_FRAME = struct.Struct(">BHIHHQBB").pack

_BASIC = 60
_ACK = 80
_REJECT = 90
_NACK = 120
_SIZE = 13
_END = 0xCE


@dataclass(frozen=True, slots=True)
class Settlement:
    """The settlements to send, in the order of the fields.

    ``returned`` holds (tag, requeue, penalty); ``upto`` is settled with multiple; then ``singles``. ``returned`` goes
    first because an earlier multiple ack would acknowledge those tags too. The tag ``upto`` is always itself being
    acknowledged: the broker refuses a multiple ack of a tag that it no longer knows.
    """

    returned: tuple[tuple[int, bool, bool], ...] = ()
    upto: int = 0
    singles: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.upto or self.singles or self.returned)


_NOTHING = Settlement()


class AckLedger:
    """The tags of one channel.

    They grow by one with each delivery, across all queues of the channel.
    """

    __slots__ = ("_acked", "_floor", "_highest", "_open", "_returned")

    def __init__(self) -> None:
        #: Tags received and not yet settled by the master.
        self._open: set[int] = set()
        #: Tags acknowledged by the master, the ack not yet sent.
        self._acked: set[int] = set()
        self._returned: list[tuple[int, bool, bool]] = []
        #: Every tag up to here is settled.
        self._floor = 0
        self._highest = 0

    @property
    def outstanding(self) -> int:
        """Number of deliveries that the master has not settled."""
        return len(self._open)

    @property
    def waiting(self) -> bool:
        """Whether there are unsent settlements."""
        return bool(self._acked or self._returned)

    def received(self, first: int, last: int) -> None:
        """Record the deliveries ``first`` to ``last``.

        Raises ``ValueError`` when tags do not grow.
        """
        if not self._highest < first <= last:
            raise ValueError(f"delivery tags {first}..{last} after {self._highest}")
        if first == last:
            self._open.add(first)
        else:
            self._open.update(range(first, last + 1))
        self._highest = last

    def received_settled(self, first: int, last: int) -> None:
        """Record deliveries of a consumer without acknowledgements; they only use up tags."""
        if not self._highest < first <= last:
            raise ValueError(f"delivery tags {first}..{last} after {self._highest}")
        self._highest = last

    def ack(self, tag: int) -> bool:
        """Acknowledge one tag; False when it is unknown or already settled."""
        try:
            self._open.remove(tag)
        except KeyError:
            return False
        self._acked.add(tag)
        return True

    def give_back(self, tag: int, *, requeue: bool, penalty: bool) -> bool:
        """Reject one tag; False when it is unknown or already settled.

        ``penalty``: whether a quorum queue counts this as a failed delivery (basic.reject) or not (basic.nack).
        """
        if tag not in self._open:
            return False
        self._open.remove(tag)
        self._returned.append((tag, requeue, penalty))
        return True

    def void(self, tags: Iterable[int]) -> None:
        """Forget tags whose messages the broker has taken back; nothing is sent for them.

        A later ``multiple`` acknowledgement may cover them; the broker then has nothing left to acknowledge there.
        """
        gone = set(tags)
        self._open -= gone
        self._acked -= gone
        self._returned = [item for item in self._returned if item[0] not in gone]

    def take(self, *, stragglers: bool) -> Settlement:
        """Return the settlements to send now, and forget them.

        Acks above an unsettled tag can only be sent one by one. They are held back until the gap closes, or until
        ``stragglers`` asks for them.
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
        """Move the floor over settled tags and drop those from ``_acked``.

        Returns the highest acknowledged tag on the way, 0 for none.
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


def settle_frames(channel: int, settlement: Settlement) -> tuple[bytes, int]:
    """Return the joined frames of one settlement, and their number."""
    frames = [_given_back(channel, *item) for item in settlement.returned]
    if settlement.upto:
        frames.append(_FRAME(1, channel, _SIZE, _BASIC, _ACK, settlement.upto, 1, _END))
    frames += [_FRAME(1, channel, _SIZE, _BASIC, _ACK, tag, 0, _END) for tag in settlement.singles]
    return b"".join(frames), len(frames)


def _given_back(channel: int, tag: int, requeue: bool, penalty: bool) -> bytes:
    if penalty:
        return _FRAME(1, channel, _SIZE, _BASIC, _REJECT, tag, 1 if requeue else 0, _END)
    # Bits of Basic.Nack: 1 multiple, 2 requeue.
    return _FRAME(1, channel, _SIZE, _BASIC, _NACK, tag, 2 if requeue else 0, _END)
