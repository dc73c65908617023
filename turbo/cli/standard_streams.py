"""Makes sure that standard input, output and error are open and accept any text.

First step of every command, before the app is imported. If a descriptor below 3 were closed, the next opened file or
socket would get its number, and output for standard error would be written into that.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import sys
from typing import Final

_MODES: Final = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


def make_usable() -> None:
    """Open /dev/null for closed descriptors.

    Escape characters that the output's encoding does not have.
    """
    for number, mode in enumerate(_MODES):
        if not _is_open(number):
            # os.open returns the lowest free number, which is this one, because those below it are open.
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdin is None:
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]
    if sys.stderr is None:
        stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.stderr = sys.__stderr__ = stderr  # type: ignore[misc]
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def is_full(error: OSError) -> bool:
    """Return whether writing to standard output failed, as on a full disk."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)


def drop_output() -> None:
    """Send the rest of standard output to /dev/null, so the process can end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _is_open(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True
