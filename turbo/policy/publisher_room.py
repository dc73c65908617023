"""Bounds the messages waiting in the publisher; says when to pause.

Used by ``amqp.publish.publisher`` in the master. Pure: counts in, decisions out. It must never hold a message.
"""

from __future__ import annotations


class PublisherRoom:
    """The bounds of one publisher: messages and bytes that wait in it."""

    __slots__ = ("_limit", "_limit_bytes", "congested")

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        #: True from half of either bound until both are down to a quarter.
        self.congested = False

    def is_full(self, messages: int, size: int) -> bool:
        """Whether no further message fits.

        ``size`` in bytes includes it, ``messages`` does not.
        """
        return messages >= self._limit or size > self._limit_bytes

    def grown(self, messages: int, size: int) -> None:
        """Record the number and bytes of waiting messages after one was added."""
        if 2 * messages >= self._limit or 2 * size >= self._limit_bytes:
            self.congested = True

    def shrunk(self, messages: int, size: int) -> bool:
        """Record fewer waiting messages; return whether this ends the congestion."""
        if not self.congested or 4 * messages > self._limit or 4 * size > self._limit_bytes:
            return False
        self.congested = False
        return True
