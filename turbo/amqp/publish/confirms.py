"""The unconfirmed messages of one channel, in order.

Part of the publisher, in the master: a confirm names one number or all up to one, and returned messages carry no
number. Pure: no I/O, no clock. It must never settle an entry twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@unique
class Published(IntEnum):
    """The result of publishing a message."""

    #: The broker has it.
    CONFIRMED = 1
    #: The broker refused to take it (a full queue that rejects, an internal error).
    NACKED = 2
    #: It was mandatory and no queue accepted it.
    RETURNED = 3
    #: It was not sent, or the broker's answer never came: too many waiting, or stopped.
    FAILED = 4
    #: It can never be published: it does not fit into frames, or the broker closes the channel whenever it is sent (no
    #: such exchange, not allowed, too large).
    REFUSED = 5


@dataclass(slots=True, eq=False)
class Outgoing:
    """One message in the publisher, from ``publish`` until its end."""

    exchange: str
    routing_key: str
    method: bytes
    header: bytes
    body: bytes
    mandatory: bool
    done: Callable[[Published], None] | None
    #: Whether it is sent again a few times when the broker refuses it.
    patient: bool = False
    #: How often the broker has refused it.
    nacks: int = 0
    #: Whether it was returned; the confirm that follows ends it as RETURNED.
    returned: bool = False
    #: Whether it was in flight when the broker closed the channel because of a message.
    suspect: bool = False
    size: int = field(init=False)

    def __post_init__(self) -> None:
        """Compute its size in the window."""
        self.size = len(self.header) + len(self.body)


class ConfirmLedger:
    """The unconfirmed messages of one channel in confirm mode."""

    __slots__ = ("_first", "_mandatory", "_next", "_waiting", "size")

    def __init__(self) -> None:
        self._waiting: dict[int, Outgoing] = {}
        self._mandatory: dict[int, Outgoing] = {}
        self._first = 1
        self._next = 1
        #: Bytes in flight.
        self.size = 0

    def __len__(self) -> int:
        """Number of messages in flight."""
        return len(self._waiting)

    def sent(self, message: Outgoing) -> int:
        """Record a message that is being sent, and return its number."""
        number = self._next
        self._next += 1
        self._waiting[number] = message
        if message.mandatory:
            self._mandatory[number] = message
        self.size += message.size
        return number

    def answered(self, number: int, multiple: bool) -> Iterator[Outgoing]:
        """Yield the messages that a confirm or refusal with this number ends, in order.

        Yields nothing for an unknown number.
        """
        if not multiple:
            message = self._take(number)
            if message is not None:
                yield message
            return
        # In order from the lowest; numbers already answered singly are skipped once.
        last = min(number, self._next - 1) if number else self._next - 1
        while self._first <= last:
            message = self._take(self._first)
            self._first += 1
            if message is not None:
                yield message

    def _take(self, number: int) -> Outgoing | None:
        message = self._waiting.pop(number, None)
        if message is not None:
            self._mandatory.pop(number, None)
            self.size -= message.size
        return message

    def came_back(self, exchange: str, routing_key: str, body: bytes) -> bool:
        """Mark the oldest mandatory message that equals a returned one.

        False when there is none. The broker returns messages in publishing order and before their confirm, but without
        their number.
        """
        for message in self._mandatory.values():
            if (
                not message.returned
                and message.exchange == exchange
                and message.routing_key == routing_key
                and message.body == body
            ):
                message.returned = True
                return True
        return False

    def oldest(self) -> Outgoing:
        """Return the first message in flight. Raises ``StopIteration`` when there is none."""
        return next(iter(self._waiting.values()))

    def abandon(self) -> list[Outgoing]:
        """Remove and return all messages, in order: the channel is gone."""
        messages = list(self._waiting.values())
        self._waiting.clear()
        self._mandatory.clear()
        self._first = self._next
        self.size = 0
        return messages
