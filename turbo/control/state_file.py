"""Keeps revoked ids and the logical clock in a file over a restart.

The file is ``worker_state_db``.

Runs in the master: reads before the loop starts, writes every few seconds when something has changed, and when the
worker ends. The file has the suffix ``.turbo``: Celery's own file of the same name is read once and never changed, so
that Celery can run again. A damaged file is renamed, and the worker starts without it. A slow disk must never hold the
loop, so every write after the first has a thread of its own, which is not waited for when the process ends.

Why a kill at any line leaves a whole file: a write goes to the file with the suffix ``.new``, which is never read, and
is synced before that file takes the place of the old one in one step. Only one write is under way at a time: the loop
starts the next one when it has heard of the end of the one before, and if the last write at the worker's end would have
to overtake another, it is left out and named. The folder is not synced, so a loss of power may bring the old file back.
"""

from __future__ import annotations

import asyncio
import contextlib
import dbm
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from turbo import failpoint
from turbo.exceptions import ImproperlyConfigured
from turbo.protocol.worker_state import StateError, WorkerState, dump, load, load_celerys

if TYPE_CHECKING:
    from turbo.policy.revoked import Revoked
    from turbo.protocol.clock import LogicalClock

logger = logging.getLogger("turbo.worker")

#: Seconds between two writes.
_INTERVAL: Final = 5.0
#: Least seconds that the last write gets, whatever the deadline.
_LAST_WRITE: Final = 1.0
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
        #: The write under way; it resolves to its error or None.
        self._writing: asyncio.Future[OSError | None] | None = None

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
        state = self._state()
        try:
            _write(self._path, state)
        except OSError as error:
            raise ImproperlyConfigured(f"worker_state_db: cannot write {self._path}: {error}") from error
        self._written = state

    # -- a companion of the master -----------------------------------------------------------------------

    async def start(self) -> None:
        """Write from now on when something has changed."""
        self._saving = asyncio.get_running_loop().create_task(self._keep_saving(), name="state-file")

    async def stop(self, deadline: float) -> None:
        """Write for the last time, unless the disk does not answer by ``deadline``."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])
        try:
            async with asyncio.timeout(max(_LAST_WRITE, deadline - time.monotonic())):
                await self._save()
        except TimeoutError:
            logger.error("The disk of %s does not answer, so a restart may not know the latest revoked ids", self._path)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            if self._written is None or list(self._written.revoked) != self._revoked.ids():
                await self._save()

    # -- inside ------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        """Write the state as it is now, after the write that is under way."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
        state = self._state()
        self._writing = self._begin_write(state)
        error = await asyncio.shield(self._writing)
        if error is None:
            self._written = state
        else:
            logger.error("Revoked ids cannot be written to %s, so a restart would forget them: %s", self._path, error)

    def _begin_write(self, state: WorkerState) -> asyncio.Future[OSError | None]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[OSError | None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            self._writing = None
            ended.set_result(error)

        def work() -> None:
            failed: OSError | None = None
            try:
                _write(self._path, state)
            except OSError as error:
                failed = error
            # The last write may end after the loop, when nobody waits for it any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, failed)

        threading.Thread(target=work, name="state-file", daemon=True).start()
        return ended

    def _state(self) -> WorkerState:
        self._revoked.purge(time.monotonic())
        return WorkerState(tuple(self._revoked.ids()), self._clock.forward())

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


def _write(path: Path, state: WorkerState) -> None:
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        if failpoint.ENABLED:
            failpoint.hit("master.state_file.opened")
        file.write(dump(state))
        file.flush()
        if failpoint.ENABLED:
            failpoint.hit("master.state_file.written")
        os.fsync(file.fileno())
    if failpoint.ENABLED:
        failpoint.hit("master.state_file.synced")
    new.replace(path)
    if failpoint.ENABLED:
        failpoint.hit("master.state_file.replaced")
