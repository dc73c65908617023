"""Sends the worker's events: online, heartbeat, offline.

Runs in the master, for ``control.service``. Before it: counters of the master's parts. After it: ``amqp.mailbox``,
which drops an event that cannot be sent at once. Events of tasks are sent by ``control.event_sender``. It must never
delay or repeat an event.
"""

from __future__ import annotations

import math
import os
import platform
import time
from typing import TYPE_CHECKING, Any, Final

from turbo import __version__
from turbo.protocol.event import build_event, event_message, routing_key

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turbo.amqp.mailbox import Mailbox
    from turbo.control.options import ControlOptions
    from turbo.protocol.clock import LogicalClock

_SOFTWARE: Final = {"sw_ident": "turbo", "sw_ver": __version__, "sw_sys": platform.system()}


class Events:
    """Sends worker-online, worker-heartbeat and worker-offline."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        options: ControlOptions,
        clock: LogicalClock,
        facts: Callable[[], dict[str, Any]],
        *,
        hostname: str,
        interval: float | None,
    ) -> None:
        """``interval`` in seconds; None sends no events.

        ``facts``: how many tasks run and have been begun.
        """
        self._loop = loop
        self._mailbox = mailbox
        self._options = options
        self._clock = clock
        self._facts = facts
        self._hostname = hostname
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Send worker-online and start the heartbeats, once events can be sent (again)."""
        if self._interval is None:
            return
        self._cancel()
        self._send("worker-online", self._interval)
        self._timer = self._loop.call_later(self._interval, self._beat, self._interval)

    def end(self) -> None:
        """Send worker-offline."""
        if self._interval is not None and self._timer is not None:
            self._cancel()
            self._send("worker-offline", self._interval)

    def send_heartbeat(self, freq: float) -> None:
        """Send an extra heartbeat now."""
        self._send("worker-heartbeat", freq)

    # -- inside ------------------------------------------------------------------------------------------

    def _beat(self, interval: float) -> None:
        self._timer = self._loop.call_later(interval, self._beat, interval)
        self._send("worker-heartbeat", interval)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, kind: str, freq: float) -> None:
        event = build_event(
            kind,
            node=self._hostname,
            pid=os.getpid(),
            clock=self._clock.forward(),
            now=time.time(),
            utcoffset=hours_west(),
            fields={"freq": freq, **self._facts(), "loadavg": _load(), **_SOFTWARE},
        )
        header, body = event_message(event, self._options.event_serializer)
        self._mailbox.send(self._options.event_exchange, routing_key(kind), header, body)


def _load() -> list[float]:
    return [math.ceil(figure * 100) / 100 for figure in os.getloadavg()]


def hours_west() -> float:
    """Return the local zone's offset to UTC for monitors: positive to the west."""
    return -time.localtime().tm_gmtoff / 3600
