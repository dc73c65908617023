"""Ends the process even if non-daemon threads of the app are still running.

Runs in the command's process, after everything else has ended. Python waits for such threads for ever. Here they get
some seconds; then the process ends as it would without them: exit handlers run and output is flushed.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import Final

logger = logging.getLogger("turbo.worker")

#: Seconds after which the process no longer waits for threads.
PATIENCE: Final = 5.0


def limit(code: int, patience: float = PATIENCE) -> None:
    """End the process with ``code`` if threads keep it ``patience`` seconds.

    Call it last. Exit handlers have no time limit: they run after the threads have ended.
    """
    timer = threading.Timer(patience, _end, (code, patience))
    timer.daemon = True
    # Exit handlers are called in reverse order, so this one is called first, when the threads have ended.
    atexit.register(timer.cancel)
    timer.start()


def _end(code: int, patience: float) -> None:
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
    logger.warning(
        "Threads of the app (%s) have not ended within %g s and are not daemons; ending the process without them",
        ", ".join(left) or "unknown",
        patience,
    )
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to run exit handlers before os._exit
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
