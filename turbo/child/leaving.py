"""Ends a child's process: exit codes, the exit, its last receivers' limit.

Runs in a child, for both executors, and in processes that tasks fork. It must never wait for anything.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The exit code that receivers of ``worker_process_shutdown`` get in a child that another has replaced. It is that of
#: billiard's pool processes.
EXIT_REPLACED: Final = 0x9B
#: Seconds that these receivers may take.
SHUTDOWN_HOOK_TIMEOUT_S = 30.0
_STDERR: Final = 2

#: The code that a shell shows for a program ended by INT.
_INTERRUPTED: Final = 130


def exit_code(error: BaseException) -> int:
    """Return an exit code, 0 to 255, by Python's rules for SystemExit.

    None is 0 and text 1; KeyboardInterrupt is 130.
    """
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if not isinstance(error, SystemExit):
        return 1
    code = error.code
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def end_process(code: int) -> NoReturn:
    """Flush the output and end this process at once.

    No exit handler of the program runs.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Limit the time of receivers of ``worker_process_shutdown`` in this context.

    If they do not return in time, the process prints all stacks to standard error and ends. Nobody else would end it:
    the master sees a child that has nothing left to do and is about to leave.
    """
    faulthandler.dump_traceback_later(SHUTDOWN_HOOK_TIMEOUT_S, exit=True, file=_STDERR)
    yield
    faulthandler.cancel_dump_traceback_later()
