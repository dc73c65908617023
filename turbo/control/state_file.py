"""Keeps revoked ids and the logical clock in a file over a restart.

The file is ``worker_state_db``.

Runs in the master: reads before the loop starts, writes every few seconds when something has changed, and when the
worker ends. A file is replaced as a whole, so a kill leaves the old or the new one. The file has the suffix ``.turbo``:
Celery's own file of the same name is read once and never changed, so that Celery can run again. A damaged file is
renamed, and the worker starts without it.
"""

from __future__ import annotations

import asyncio
import dbm
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from turbo.exceptions import ImproperlyConfigured
from turbo.protocol.worker_state import StateError, WorkerState, dump, load, load_celerys

if TYPE_CHECKING:
    from turbo.policy.revoked import Revoked
    from turbo.protocol.clock import LogicalClock

logger = logging.getLogger("turbo.worker")

#: Seconds between two writes.
_INTERVAL: Final = 5.0
_CELERYS: Final = ("clock", "zrevoked")


class StateFile:
    """The state file of one worker; a companion of its master."""

    def __init__(self, path: str, revoked: Revoked, clock: LogicalClock) -> None:
        self._celerys = path
        self._path = Path(f"{path}.turbo")
        self._revoked = revoked
        self._clock = clock
        self._written: WorkerState | None = None
        self._saving: asyncio.Task[None] | None = None

    def take_up(self) -> None:
        """Read the file and write it again, before anything runs.

        Raises ImproperlyConfigured if it cannot be written. Ids count from now on, as in Celery: nobody knows how long
        the worker was away.
        """
        found = self._read()
        self._revoked.add(found.revoked, time.monotonic())
        self._clock.adjust(found.clock)
        if found.revoked:
            logger.info("%d revoked ids were read from %s", len(found.revoked), self._path)
        try:
            self._write(self._state())
        except OSError as error:
            raise ImproperlyConfigured(f"worker_state_db: cannot write {self._path}: {error}") from error

    # -- a companion of the master -----------------------------------------------------------------------

    async def start(self) -> None:
        """Write from now on when something has changed."""
        self._saving = asyncio.get_running_loop().create_task(self._keep_saving(), name="state-file")

    async def stop(self, deadline: float) -> None:
        """Write for the last time."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])
        self._save()

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            if self._written is None or list(self._written.revoked) != self._revoked.ids():
                self._save()

    # -- inside ------------------------------------------------------------------------------------------

    def _save(self) -> None:
        try:
            self._write(self._state())
        except OSError as error:
            logger.error("Revoked ids cannot be written to %s, so a restart would forget them: %s", self._path, error)

    def _state(self) -> WorkerState:
        self._revoked.purge(time.monotonic())
        return WorkerState(tuple(self._revoked.ids()), self._clock.forward())

    def _write(self, state: WorkerState) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("wb") as file:
            file.write(dump(state))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._written = state

    def _read(self) -> WorkerState:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return self._read_celerys()
        except OSError as error:
            raise ImproperlyConfigured(f"worker_state_db: cannot read {self._path}: {error}") from error
        try:
            return load(data)
        except StateError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            logger.error(
                "The state file %s is damaged (%s): it is renamed to %s, and its revoked ids are forgotten",
                self._path, error, aside.name,
            )  # fmt: skip
            try:
                self._path.replace(aside)
            except OSError as failure:
                raise ImproperlyConfigured(f"worker_state_db: cannot rename {self._path}: {failure}") from failure
            return WorkerState()

    def _read_celerys(self) -> WorkerState:
        """Read the file that a Celery worker has left, if there is one.

        A damaged one is left as it is.
        """
        if not dbm.whichdb(self._celerys):
            return WorkerState()
        try:
            with dbm.open(self._celerys, "r") as file:
                entries = {name: bytes(file[name]) for name in _CELERYS if name in file}
            found = load_celerys(entries)
        except (StateError, *dbm.error, OSError, ValueError, SyntaxError) as error:
            logger.error("Celery's state file %s cannot be read, so its revoked ids are not known here: %s",
                         self._celerys, error)  # fmt: skip
            return WorkerState()
        logger.info("The revoked ids of Celery's state file %s are taken over", self._celerys)
        return found
