"""Reads the broker's answers to publishes: confirms, refusals, returns.

Used by the publisher's connection, in the master: whole frames in, answers out. Returned messages are read here and not
by pika, which fails on some headers that task authors send. Pure: no I/O, no clock. It must never look into a returned
message's header.

Frames: Basic.Ack 60.80 and RabbitMQ's Basic.Nack 60.120 (delivery tag u64, bits; bit 0 is multiple); Basic.Return
60.50 (reply code u16, then reply text, exchange and routing key as short strings) followed by its content.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ACK = b"\x00\x3c\x00\x50"
_NACK = b"\x00\x3c\x00\x78"
_RETURN = b"\x00\x3c\x00\x32"
_CHANNEL = struct.Struct(">H").unpack_from
_U64 = struct.Struct(">Q").unpack_from

_METHOD = 1
_HEADER = 2


@dataclass(frozen=True, slots=True)
class Returned:
    """A mandatory message that no queue accepted."""

    code: int
    text: str
    exchange: str
    routing_key: str
    body: bytes


class AnswerReader:
    """The parser state of one channel: a returned message whose content is incomplete."""

    __slots__ = ("_args", "_channel", "_chunks", "_missing", "_on_confirm", "_on_return")

    def __init__(
        self,
        channel: int,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        """``on_confirm(number, multiple, taken)``: ``taken`` is False when refused."""
        self._channel = channel
        self._on_confirm = on_confirm
        self._on_return = on_return
        #: Arguments of the Return whose content is incomplete; empty for none.
        self._args = b""
        #: Missing bytes of the body; None before the header.
        self._missing: int | None = None
        self._chunks: list[bytes] = []

    def take(self, frame: bytes) -> bool:
        """Read one whole frame, its end byte included.

        False when it belongs to another reader.
        """
        if _CHANNEL(frame, 1)[0] != self._channel:
            return False
        kind = frame[0]
        if kind == _METHOD:
            method = frame[7:11]
            if method == _ACK or method == _NACK:
                self._on_confirm(_U64(frame, 11)[0], bool(frame[19] & 1), method == _ACK)
                return True
            if method == _RETURN:
                self._args, self._missing, self._chunks = frame[11:-1], None, []
                return True
            return False
        if not self._args:
            return False
        if kind == _HEADER:
            self._missing = _U64(frame, 11)[0]
        else:
            self._chunks.append(frame[7:-1])
            self._missing = (self._missing or 0) - (len(frame) - 8)
        if self._missing <= 0:
            returned = _returned(self._args, b"".join(self._chunks))
            self._args, self._chunks = b"", []
            self._on_return(returned)
        return True


def _returned(args: bytes, body: bytes) -> Returned:
    texts = []
    at = 2
    for _ in range(3):
        end = at + 1 + args[at]
        texts.append(args[at + 1 : end].decode("utf-8", "replace"))
        at = end
    return Returned(_CHANNEL(args, 0)[0], texts[0], texts[1], texts[2], body)
