"""Holds messages that the broker refused for now, and sends them again later.

A full queue refuses, for example.

Part of the publisher, in the master, for its patient messages. It must never hold one for ever: after the last pause
the message ends as NACKED, and its sender decides.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.publish.confirms import Outgoing

logger = logging.getLogger("turbo.amqp.publish.publisher")

#: Seconds before each repetition.
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)


class NackRetry:
    """The refused messages of one publisher, each with its timer."""

    def __init__(self, send_again: Callable[[Outgoing], None]) -> None:
        """``send_again`` is called with each message when its pause is over."""
        self._send_again = send_again
        self._timers: dict[Outgoing, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Number of messages held."""
        return len(self._timers)

    def hold(self, message: Outgoing) -> bool:
        """Hold a message that the broker just refused; False when it has no retries left."""
        if not message.patient or message.nacks >= len(PAUSES):
            return False
        pause = PAUSES[message.nacks]
        message.nacks += 1
        message.returned = False
        logger.info(
            "Message to exchange %r with key %r not taken, sent again in %g s",
            message.exchange,
            message.routing_key,
            pause,
        )
        self._timers[message] = asyncio.get_running_loop().call_later(pause, self._release, message)
        return True

    def _release(self, message: Outgoing) -> None:
        del self._timers[message]
        self._send_again(message)

    def give_up(self) -> list[Outgoing]:
        """Release all messages, in order."""
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()
        return list(timers)
