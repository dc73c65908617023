"""Logs lost connections and broker alarms once for all connections of a worker.

Runs in the master. ``amqp.dialer``, ``amqp.consume.link``, ``amqp.publish.publisher`` and ``amqp.mailbox`` report what
happens to their connections; ``policy.outage`` decides when to log. The log lines begin like those that Celery writes
for the same event. It must never raise and never connect.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from turbo.policy.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.connect_errors import ConnectFailed

logger = logging.getLogger("turbo.amqp.outages")


class Outages:
    """The outages of one worker: lost connections, and alarms that block them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds."""
        self._clock = clock
        self._missing = Outage()
        self._alarm = Outage()

    @property
    def blocked(self) -> bool:
        """Whether the broker blocks a connection of this worker (memory or disk alarm)."""
        return bool(self._alarm.down)

    def lost(self, link: str, reason: str) -> None:
        """Record that ``link`` lost its connection or channel; it reconnects by itself."""
        self._alarm.end(link, self._clock())
        if self._missing.begin(link, self._clock()):
            logger.warning(
                "consumer: Connection to broker lost. Trying to re-establish the connection... (%s: %s)",
                link,
                one_line(reason),
            )

    def failed(self, link: str, label: str, error: ConnectFailed, delay: float, failures: int) -> None:
        """Record that ``link`` failed to connect to ``label``.

        It tries again after ``delay`` seconds.
        """
        now = self._clock()
        if not self._missing.begin(link, now):
            return
        lasted = self._missing.lasted(now)
        logger.error(
            "consumer: Cannot connect to %s: %s. Trying again in %.2f seconds... (failed attempts so far: %d%s)%s",
            label,
            one_line(str(error)),
            delay,
            failures,
            f", for {lasted:.0f} s" if lasted >= 1 else "",
            f"; hint: {error.hint}" if error.hint else "",
            exc_info=error.__cause__,
        )

    def connected(self, link: str) -> None:
        """Record that ``link`` is connected."""
        took = self._missing.end(link, self._clock())
        if took is not None:
            logger.warning("The connection to the broker is established again, after %.1f s", took)

    def set_blocked(self, link: str, blocked: bool, reason: str = "") -> None:
        """Record that the broker stopped reading from ``link``, or reads again.

        An alarm stops it.
        """
        now = self._clock()
        if not blocked:
            if self._alarm.end(link, now) is not None:
                logger.warning("The broker takes messages again: its alarm is over")
        elif self._alarm.begin(link, now):
            logger.error(
                "The broker blocks this worker's messages (%s): results, retries and follow-ups wait, and the worker "
                "is not ready, until the alarm ends; free memory or disk space on the broker",
                reason or "memory or disk alarm",
            )


def one_line(text: str, most: int = 500) -> str:
    """Return ``text`` on one line, at most ``most`` characters long."""
    return " ".join(text.split())[:most]
