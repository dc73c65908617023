"""Ends a command whose threads do not end: those that the app started at import and that are no daemons.

Runs in the command's process, when all else has ended. Python waits for such threads for ever. Here they have some
seconds, after which the process ends as it would have without them: exit handlers run, output is written.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import Final

logger = logging.getLogger("turbo.worker")

#: Seconds that such threads have to end.
PATIENCE: Final = 5.0


def limit(code: int, patience: float = PATIENCE) -> None:
    """End the process with ``code`` if, ``patience`` seconds from now, it still waits for threads.

    Call it last. Exit handlers have all the time they want: they run when the threads have ended.
    """
    timer = threading.Timer(patience, _end, (code, patience))
    timer.daemon = True
    # Registered last, called first: when the interpreter has done with the threads.
    atexit.register(timer.cancel)
    timer.start()


def _end(code: int, patience: float) -> None:
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
    logger.warning(
        "Threads of the app (%s) have not ended within %g s and are no daemons: the process ends without them",
        ", ".join(left) or "unknown",
        patience,
    )
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to leave by os._exit and keep them
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
