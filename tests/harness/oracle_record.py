"""``record``: writes an event of a task under test to the oracle's file.

Imports nothing heavy, because workers import it. Each line is `event|id|attempt|pid|monotonic nanoseconds`, one
write(2) to a file opened with O_APPEND, so that lines of several processes never mix and a SIGKILL never leaves half a
line.
"""

from __future__ import annotations

import os
import time

#: The environment variable that names the oracle's file.
VARIABLE = "TURBO_TEST_ORACLE"
_file: list[tuple[int, int]] = []  # (pid, descriptor): a forked child opens its own


def record(event: str, identifier: str, attempt: int = 0) -> None:
    """Append one line; `event` is usually "start" or "end"."""
    pid = os.getpid()
    if not _file or _file[0][0] != pid:
        _file[:] = [(pid, os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))]
    os.write(_file[0][1], f"{event}|{identifier}|{attempt}|{pid}|{time.monotonic_ns()}\n".encode())
