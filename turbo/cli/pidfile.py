"""A file with the worker's pid that keeps a second worker from starting.

Held by the command while the worker runs. The lock on the file shows whether its owner is alive; its text is only used
in the error message. A file that a killed worker left is therefore taken over.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from turbo.exceptions import ImproperlyConfigured, TurboError

if TYPE_CHECKING:
    from types import TracebackType


class PidfileTakenError(TurboError):
    """Another worker holds the pidfile."""


class Pidfile:
    """A context manager that holds the pidfile.

    Entering raises PidfileTakenError, or ImproperlyConfigured if the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            while not self._try_once():
                # The owner removed the file between our opening and locking it, so create a new one.
                pass
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise ImproperlyConfigured(f"the pidfile {self._path} cannot be written: {error.strerror}") from error
        return self

    def _try_once(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise PidfileTakenError(f"{self._path} is held by a running worker (pid {owner})") from None
        if _same_file(self._path, fd):
            self._fd = fd
            return True
        os.close(fd)
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            if _same_file(self._path, self._fd):
                self._path.unlink()
            os.close(self._fd)
            self._fd = -1


def _same_file(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
