"""Standard input, output and error as every command of turbo can rely on them: open, and taking any text.

First step of every command, before the app is imported: a descriptor below 3 that is closed would be given to the
next file or socket that is opened, and what is meant for standard error would be written there.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys
from typing import Final

_MODES: Final = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


def make_usable() -> None:
    """Open /dev/null in place of what is closed; have text that the output's encoding lacks written with escapes."""
    for number, mode in enumerate(_MODES):
        if not _is_open(number):
            # The lowest free number is this one: those below it are open.
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdin is None:
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]
    if sys.stderr is None:
        taken = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.stderr = sys.__stderr__ = taken  # type: ignore[misc]
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_open(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True
