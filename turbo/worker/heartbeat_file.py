"""``turbo worker --heartbeat-file``: a file for liveness probes.

It is touched while the worker is alive.

A companion of the master, in its process, on its loop; started just before the worker is ready. A probe looks at the
file's age: a loop that hangs, or a worker that cannot consume, lets it grow. The file is removed when the worker ends.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("turbo.worker")

#: Seconds between touches. Probes usually allow a minute.
_EVERY: Final = 2.0


def check(path: str) -> None:
    """Raise ImproperlyConfigured if the file cannot be written."""
    try:
        Path(path).touch()
    except OSError as error:
        raise ImproperlyConfigured(f"--heartbeat-file: {error}") from error
    # Until the worker is ready, nothing is alive.
    Path(path).unlink()


class HeartbeatFile:
    """Touches a file between start and stop, whenever ``alive`` returns True."""

    def __init__(self, path: str, alive: Callable[[], bool]) -> None:
        self._path = Path(path)
        self._alive = alive
        self._timer: asyncio.TimerHandle | None = None
        #: The newest touch failed, which is logged once.
        self._failing = False

    async def start(self) -> None:
        """Touch the file now, and again and again."""
        self._beat()

    async def stop(self, deadline: float) -> None:
        """Remove the file."""
        if self._timer is None:
            return
        self._timer.cancel()
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("Cannot remove the heartbeat file: %s", error)

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._beat)
        if not self._alive():
            return
        try:
            self._path.touch()
        except OSError as error:
            if not self._failing:
                logger.error("Cannot touch the heartbeat file; the worker goes on and tries again: %s", error)
            self._failing = True
        else:
            self._failing = False
