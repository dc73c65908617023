"""Builds the frames of acknowledgements and of cancelled consumers; none waits for an answer.

Between ``ack_ledger`` and ``FastConnection.emit_frames``, in the master. Pure. It must never decide anything.

The frames are those of AMQP 0-9-1 (Basic.Ack 60.80, Basic.Reject 60.90) and RabbitMQ's Basic.Nack (60.120).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo.amqp.consume.ack_ledger import Settlement

#: type, channel, size, class, method, delivery tag, bits, end: all three methods have this shape.
_FRAME = struct.Struct(">BHIHHQBB").pack

#: type, channel, size, class, method: the front of any method's frame.
_METHOD = struct.Struct(">BHIHH").pack

_BASIC = 60
_CANCEL = 30
_ACK = 80
_REJECT = 90
_NACK = 120
_SIZE = 13
_END = 0xCE


def settle_frames(channel: int, settlement: Settlement) -> tuple[bytes, int]:
    """Return the joined frames of one settlement, and their number."""
    frames = [_given_back(channel, *item) for item in settlement.returned]
    if settlement.upto:
        frames.append(_FRAME(1, channel, _SIZE, _BASIC, _ACK, settlement.upto, 1, _END))
    frames += [_FRAME(1, channel, _SIZE, _BASIC, _ACK, tag, 0, _END) for tag in settlement.singles]
    return b"".join(frames), len(frames)


def cancel_frame(channel: int, consumer_tag: bytes) -> bytes:
    """Return the frame that ends a consumer without an answer (Basic.Cancel 60.30, no-wait)."""
    arguments = bytes((len(consumer_tag),)) + consumer_tag + b"\x01"
    return _METHOD(1, channel, 4 + len(arguments), _BASIC, _CANCEL) + arguments + bytes((_END,))


def _given_back(channel: int, tag: int, requeue: bool, penalty: bool) -> bytes:
    if penalty:
        return _FRAME(1, channel, _SIZE, _BASIC, _REJECT, tag, 1 if requeue else 0, _END)
    # Bits of Basic.Nack: 1 multiple, 2 requeue.
    return _FRAME(1, channel, _SIZE, _BASIC, _NACK, tag, 2 if requeue else 0, _END)
