"""The scheduler that keeps the last runs in a file.

The default of ``beat_scheduler``.

Made by ``beat.service``. A beat that was killed or restarted goes on where it was: a run that became due meanwhile is
sent at once, and none is repeated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from turbo.beat.run_file import RunFile
from turbo.beat.scheduler import Scheduler

if TYPE_CHECKING:
    from turbo.app.base import Turbo

#: Seconds after which a write also waits for the disk.
_LASTING_EVERY: Final = 180.0
#: Seconds between two writes where the next beat gets the last runs from the broker.
_SHARED_EVERY: Final = 1.0


class PersistentScheduler(Scheduler):
    """The entries of ``beat_schedule``, with their last runs in a file.

    The file is ``schedule_filename`` with the suffix ``.turbo``; while there is none, the last runs are those of
    Celery's file ``schedule_filename``.
    """

    def __init__(self, app: Turbo, *args: Any, schedule_filename: str | None = None, **kwargs: Any) -> None:
        self.schedule_filename: str = schedule_filename or app.conf["beat_schedule_filename"]
        self._file = RunFile(self.schedule_filename)
        self._last_lasting: float | None = None
        self._last_write = float("-inf")
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Make the entries of ``beat_schedule`` and give them their last runs.

        Raises ImproperlyConfigured.
        """
        self._file.check()
        super().setup_schedule()
        self.take_over(self._file.read())
        self.sync()

    def sync(self) -> None:
        """Write the last runs; every three minutes wait until they are on the disk.

        Where the broker has them too, there is one write a second at most.
        """
        now = time.monotonic()
        if self.shares_runs and now - self._last_write < _SHARED_EVERY:
            return
        self._write(now)

    def close(self) -> None:
        """Write the last runs."""
        self._write(time.monotonic())

    def _write(self, now: float) -> None:
        self._last_write = now
        lasting = self._last_lasting is None or now - self._last_lasting >= _LASTING_EVERY
        self._file.write(self.runs(), lasting=lasting)
        if lasting:
            self._last_lasting = now

    @property
    def info(self) -> str:
        """Lines for the banner."""
        return f"    . db -> {self._file.path}"
