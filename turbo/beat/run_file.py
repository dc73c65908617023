"""The file of the last runs, which survives a kill at any moment.

Read once by ``beat.persistent`` at the start, and written before each tick. A write goes to a file beside it, which
then takes its name: a reader finds the old content or the new one, never a part. The file has the suffix ``.turbo``:
Celery's own file of the same name is read while there is none, and never changed, so that Celery can run again.
"""

from __future__ import annotations

import contextlib
import dbm
import logging
import os
from pathlib import Path
from typing import Final

from turbo.beat import celery_entries, runs
from turbo.exceptions import ImproperlyConfigured

logger = logging.getLogger("celery.beat")


#: The key of the entries in Celery's file.
_CELERY_ENTRIES: Final = b"entries"


class RunFile:
    """The file for the schedule file's name ``name``."""

    def __init__(self, name: str) -> None:
        self._celery_path = name
        self.path = Path(f"{name}.turbo")
        self._failing = False

    def read(self) -> dict[str, runs.Run]:
        """Return the runs in the file, or in Celery's if there is none yet.

        A file that cannot be understood is renamed to ``<name>.turbo.damaged``, with a log message. Raises
        ImproperlyConfigured for a file that cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return self._read_celery_file()
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

    def _read_celery_file(self) -> dict[str, runs.Run]:
        """Return the runs in the file of Celery's beat, if there is one.

        The file stays as it is.
        """
        kind = dbm.whichdb(self._celery_path)
        if kind is None:
            return {}
        try:
            if not kind:
                raise ValueError("it is no file of Python's shelve")
            with dbm.open(self._celery_path, "r") as file:
                data = bytes(file[_CELERY_ENTRIES])
            found = celery_entries.load(data)
        except (*dbm.error, OSError, KeyError, TypeError, ValueError, SyntaxError) as error:
            logger.error(
                "Celery's schedule file %s cannot be read (%s); it stays as it is, and the last runs are counted from "
                "now, in %s",
                self._celery_path,
                error,
                self.path,
            )
            return {}
        logger.info(
            "The last runs of %d entries are taken over from Celery's schedule file %s, which stays as it is; from now "
            "on beat keeps them in %s",
            len(found.runs),
            self._celery_path,
            self.path,
        )
        if found.unreadable:
            logger.warning(
                "Celery's schedule file %s does not tell the last runs of these entries in a form that is known; they "
                "are counted from now: %s",
                self._celery_path,
                ", ".join(found.unreadable),
            )
        return found.runs

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
