"""Waits for started children to become ready, and retries failed starts.

Runs in the master, for ``master.children.pool``. A child reports ready in its control page once it is initialised. No
signal announces that, so the page is polled every two milliseconds while a child is starting, and never otherwise. A
failed slot is retried after a pause that doubles. If no child of the worker has ever become ready, a few failures in a
row end it. Time in which the whole worker was stopped does not count. It must never end the worker once a child served.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from turbo.policy.child_lifecycle import ChildState
from turbo.policy.time_limits import RunningClock

if TYPE_CHECKING:
    import asyncio

    from turbo.master.children.child_process import ChildProcess

logger = logging.getLogger(__name__)

#: Seconds between polls of the ready words of starting children.
_HELLO_CHECK = 0.002
#: Consecutive failures of one slot after which the worker gives up if no child ever served.
_MOST_FAILURES = 3
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 10.0


class BootFailure(RuntimeError):
    """No child became ready."""


class Starter(Protocol):
    """The part of the pool that starts children."""

    def spawn_again(self, index: int) -> None:
        """Retry in this slot if it is still empty."""

    def serving_now(self, child: ChildProcess) -> None:
        """The child is ready."""

    def kill(self, child: ChildProcess, reason: str, detail: object) -> None:
        """Kill a child that took too long."""

    def cannot_start(self, error: BaseException) -> None:
        """No child can be started."""


class Boot:
    """Watches starting children."""

    def __init__(self, loop: asyncio.AbstractEventLoop, starter: Starter, *, alive_timeout: float) -> None:
        self._loop = loop
        self._starter = starter
        self._alive_timeout = alive_timeout
        self._starting: list[ChildProcess] = []
        self._timer: asyncio.TimerHandle | None = None
        self._clock = RunningClock()
        #: Consecutive failures by slot.
        self._failures: dict[int, int] = {}
        self._ever_served = False

    def watch(self, child: ChildProcess) -> None:
        """Wait until a newly forked child is ready."""
        self._starting.append(child)
        if self._timer is None:
            self._look_soon()

    def failed(self, index: int) -> None:
        """Handle a failed start in this slot: retry later, or give up."""
        failures = self._failures[index] = self._failures.get(index, 0) + 1
        if not self._ever_served and failures >= _MOST_FAILURES:
            self._starter.cannot_start(BootFailure(f"child {index} ended {failures} times before it was ready"))
            return
        pause = min(_PAUSE_FIRST * 2 ** (failures - 1), _PAUSE_MOST)
        self._loop.call_later(pause, self._starter.spawn_again, index)

    def _look_soon(self) -> None:
        self._timer = self._loop.call_later(_HELLO_CHECK, self._look)
        self._clock.ask(time.monotonic_ns(), int(_HELLO_CHECK * 1e9))

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        lost = self._clock.look(time.monotonic_ns()) / 1e9
        waiting: list[ChildProcess] = []
        for child in self._starting:
            child.spawned_at += lost
            if child.state is not ChildState.STARTING:
                continue
            if child.link.page.hello() == child.pid:
                self._ever_served = True
                self._failures.pop(child.index, None)
                self._starter.serving_now(child)
            elif now - child.spawned_at > self._alive_timeout:
                logger.error(
                    "Child %d (pid %d) was not ready after %.0f s", child.index, child.pid, self._alive_timeout
                )
                self._starter.kill(child, "boot", None)
            else:
                waiting.append(child)
        self._starting = waiting
        if waiting and self._timer is None:
            self._look_soon()
