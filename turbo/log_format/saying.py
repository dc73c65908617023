"""Prints a worker's line on standard output, whatever the log is.

Log level and log file do not matter.

Called by the master, from its loop. It must never block and never raise: a line that cannot be written at once is
lost, since the log says the same.
"""

from __future__ import annotations

import logging
import os
import select
import sys

logger = logging.getLogger("turbo.worker")


def say(line: str) -> None:
    """Write ``line`` in one piece to the process's first standard output."""
    stream = sys.__stdout__
    if stream is None:
        return
    try:
        number = stream.fileno()
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        if poll.poll(0):
            # A pipe that can be written to has room for 4 KiB: this does not wait.
            os.write(number, f"{line}\n".encode())
    except (OSError, ValueError) as error:
        logger.debug("Standard output takes no line: %s", error)
