"""How a child ends: in order, with a bound on what its last receivers may take, or by what its task raised.

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

#: What receivers of a child's last signal are told as the exit code of a child that another has replaced; billiard's
#: pool processes exit with it.
EXIT_REPLACED: Final = 0x9B
#: Seconds that these receivers may take.
SHUTDOWN_HOOK_TIMEOUT_S = 30.0
_STDERR: Final = 2

#: The code that a shell shows for a program ended by INT.
_INTERRUPTED: Final = 130


def exit_code(error: BaseException) -> int:
    """Return the code, 0 to 255: of a SystemExit by Python's rules (None 0, text 1), 130 for KeyboardInterrupt."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if not isinstance(error, SystemExit):
        return 1
    code = error.code
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def end_process(code: int) -> NoReturn:
    """End this process at once, with what it has printed written out: no handler of the program's runs."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within this, receivers of a child's last signal run.

    If they do not return in time, the process ends with all stacks on standard error. Nobody else would end it: the
    master sees a child that has nothing left to do and is about to leave.
    """
    faulthandler.dump_traceback_later(SHUTDOWN_HOOK_TIMEOUT_S, exit=True, file=_STDERR)
    yield
    faulthandler.cancel_dump_traceback_later()
