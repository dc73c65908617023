"""Contains the package's only ``os.fork``.

The command uses it to start the spawner, and the spawner to start children. Call it only in a process with one thread
and no event loop. One caller cannot promise that: ``contrib.testing.worker``, in a process that runs tests; no thread
of that process is used in the new one.
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
    """Fork a process that runs ``body`` and then ends; return its pid.

    All signals are blocked during the fork, so that no handler of the old process runs in the new one before ``body``
    replaces it. ``body`` starts with all signals blocked and must unblock them. The new process always ends by
    os._exit and never returns to the caller's stack. Raises OSError.
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
    """Send SIGKILL to an unreaped child and to the group that it leads.

    It is a child of this process. This is safe because the kernel does not reuse an unreaped pid. A child that has not
    called setsid yet leads no group, so both are signalled.
    """
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
