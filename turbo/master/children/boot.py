"""Children on their way to serving: their hello, their deadline, and the pauses between failed attempts.

Runs in the master, for ``master.children.pool``. A child says hello in its control page once it is initialised; nothing
signals that, so the page is looked at every two milliseconds while any child is starting, and never otherwise. A
slot whose child does not come up is tried again after a pause that doubles; when no child of the worker has ever
come up, a few failures in a row are the end of it. Time in which the whole worker was stopped does not count.
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

#: Seconds between looks at starting children's hello words.
_HELLO_CHECK = 0.002
#: Failures in a row of one slot after which the worker gives up if no child ever served.
_MOST_FAILURES = 3
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 10.0


class BootFailure(RuntimeError):
    """No child ever became ready."""


class Starter(Protocol):
    """The pool, as far as starting children concerns it."""

    def spawn_again(self, index: int) -> None:
        """Try again in this slot if it is still empty."""

    def serving_now(self, child: ChildProcess) -> None:
        """This child said hello."""

    def kill(self, child: ChildProcess, reason: str, detail: object) -> None:
        """This child took too long."""

    def cannot_start(self, error: BaseException) -> None:
        """No child comes up."""


class Boot:
    """Watches starting children."""

    def __init__(self, loop: asyncio.AbstractEventLoop, starter: Starter, *, alive_timeout: float) -> None:
        self._loop = loop
        self._starter = starter
        self._alive_timeout = alive_timeout
        self._starting: list[ChildProcess] = []
        self._timer: asyncio.TimerHandle | None = None
        self._clock = RunningClock()
        #: Failures in a row, by slot.
        self._failures: dict[int, int] = {}
        self._ever_served = False

    def watch(self, child: ChildProcess) -> None:
        """Wait for the hello of a child that was just forked."""
        self._starting.append(child)
        if self._timer is None:
            self._look_soon()

    def failed(self, index: int) -> None:
        """An attempt in this slot failed: try again later, or give up."""
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
