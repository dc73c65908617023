"""Contains the package's only ``os.fork``.

What: one function. Place: used by the command to make the spawner and by the spawner to make children. It
must be called in a process with one thread and no event loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: EX_SOFTWARE: an uncaught exception ended the new process.
EXIT_UNCAUGHT = 70


def fork(body: Callable[[], None]) -> int:
    """Fork; run ``body`` in the new process, which ends when it returns; return the new pid to the caller.

    Every signal is blocked across the fork, so that no handler of the old process runs in the new one before
    ``body`` has replaced it: ``body`` starts with all signals blocked and must unblock them. The new process
    leaves through os._exit always, never into the caller's stack. Raises OSError.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _run(body)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _run(body: Callable[[], None]) -> None:
    code = EXIT_UNCAUGHT
    try:
        body()
        code = 0
    except BaseException:  # noqa: BLE001 - this is the last frame of a process
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def kill_group(pid: int) -> None:
    """Send SIGKILL to a child of this process that it has not reaped, and to the group that it leads.

    Safe exactly because an unreaped pid cannot be anybody else's. A child that has not come to its setsid
    leads no group yet, hence both.
    """
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
