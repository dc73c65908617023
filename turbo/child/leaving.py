"""With which exit code a child ends by what its task raised.

Runs in a child, for both executors and for processes that tasks fork. Pure: it ends nothing.
"""

from __future__ import annotations

from typing import Final

#: As a shell shows a program that INT has ended.
_INTERRUPTED: Final = 130


def exit_code(error: BaseException) -> int:
    """The code, 0 to 255: that of a SystemExit by Python's rules (None is 0, text is 1), 130 for KeyboardInterrupt."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if not isinstance(error, SystemExit):
        return 1
    code = error.code
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1
