"""The file of the last runs, which survives a kill at any moment.

Read once by ``beat.persistent`` at the start, and written before each tick. A write goes to a file beside it, which
then takes its name: a reader finds the old content or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from turbo.beat import runs
from turbo.exceptions import ImproperlyConfigured

logger = logging.getLogger("celery.beat")


class RunFile:
    """The file at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._failing = False

    def read(self) -> dict[str, runs.Run]:
        """Return the runs in the file; none if there is no file.

        A file that cannot be understood is renamed to ``<name>.damaged``, with a log message. Raises
        ImproperlyConfigured for a file that cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ImproperlyConfigured(f"the schedule file cannot be read: {error}") from error
        try:
            return runs.decode(data)
        except ValueError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            try:
                self.path.replace(aside)
            except OSError as failure:
                raise ImproperlyConfigured(f"the damaged schedule file cannot be renamed: {failure}") from failure
            logger.error(
                "The schedule file %s is damaged, or was written by another program (%s); it is renamed to %s, and the "
                "last runs are counted from now",
                self.path,
                error,
                aside,
            )
            return {}

    def check(self) -> None:
        """Raise ImproperlyConfigured if no file can be written at the path."""
        probe = self._beside()
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ImproperlyConfigured(f"the schedule file {self.path} cannot be written: {error}") from error

    def write(self, found: runs.Runs, *, lasting: bool = False) -> None:
        """Replace the file.

        ``lasting``: return when the content is on the disk, so that a power cut keeps it. A failure is logged once;
        beat goes on with the last runs in memory.
        """
        beside = self._beside()
        try:
            with beside.open("wb") as file:
                file.write(runs.encode(found))
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            if not self._failing:
                logger.error(
                    "The schedule file %s cannot be written (%s); beat goes on, and a restart would repeat or "
                    "leave out runs",
                    self.path,
                    error,
                )
            self._failing = True
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        else:
            self._failing = False

    def _beside(self) -> Path:
        # A name of this process's own: two beats may use the same file.
        return self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
