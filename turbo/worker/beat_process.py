"""``turbo worker -B``: runs ``turbo beat`` as a process beside the worker.

A companion of the master, in its process; started when the worker is ready. Beat reads a pipe of which the master holds
the other end, so it ends with the master, however that ends. A beat that ends by itself is started again, after a pause
that grows up to half a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("turbo.worker")

_BACKOFF: Final = Backoff(first=1.0, cap=30.0)
#: Seconds that beat must have run for its next end to count as the first.
_STABLE: Final = 60.0


class BeatProcess:
    """One beat at a time, from :meth:`start` to :meth:`stop`.

    ``worker_stops``: whether to start no other.
    """

    def __init__(self, command: Sequence[str], worker_stops: Callable[[], bool]) -> None:
        self._command = command
        self._worker_stops = worker_stops
        self._process: subprocess.Popen[bytes] | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start beat, and watch it from now on."""
        self._running = asyncio.get_running_loop().create_task(self._run(), name="beat")

    async def stop(self, deadline: float) -> None:
        """Ask beat to end, and kill it at ``deadline`` (monotonic seconds)."""
        if self._running is None:
            return
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await _ended(process)
        except TimeoutError:
            logger.warning("Beat (pid %d) does not end when asked to; killing it", process.pid)
            process.kill()
            process.wait()
        _close(process)

    async def _run(self) -> None:
        failures = 0
        while not self._worker_stops():
            began = time.monotonic()
            try:
                process = self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
            except OSError as error:
                why = f"cannot be started: {error}"
            else:
                logger.info("Beat runs beside this worker (pid %d)", process.pid)
                await _ended(process)
                self._process = None
                _close(process)
                why = f"(pid {process.pid}) has ended with code {process.returncode}"
            if self._worker_stops():
                return
            failures = 1 if time.monotonic() - began > _STABLE else failures + 1
            seconds = reconnect_delay(failures, random.random(), _BACKOFF)
            logger.error("Beat %s; starting it again in %.1f s", why, seconds)
            await asyncio.sleep(seconds)


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has ended, and reap it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    watched = os.pidfd_open(process.pid)
    try:
        loop.add_reader(watched, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(watched)
    finally:
        os.close(watched)
    process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
