"""``app.log``: what a task may ask of logging at run time, under Celery's names.

A child's logging is set up by ``log_format`` as it starts; a task may turn what it prints over to a logger of its own
for a while. It must never install handlers: those are the worker's.
"""

from __future__ import annotations

import logging
import sys

from turbo import log_format


class Log:
    """The logging of an app's processes."""

    def redirect_stdouts_to_logger(
        self, logger: logging.Logger, loglevel: str | int | None = None, stdout: bool = True, stderr: bool = True
    ) -> log_format.RedirectedStream:
        """Make lines printed from now on records of ``logger``, at ``loglevel`` (WARNING by default).

        ``stdout`` and ``stderr`` say which of the two streams are replaced; restore them by assigning the former ones
        to ``sys.stdout`` and ``sys.stderr``. Returns the stream that stands in.
        Raises ValueError for an unknown level.
        """
        level = logging.WARNING if loglevel is None else log_format.level_number(loglevel)
        stream = log_format.RedirectedStream(logger, level)
        if stdout:
            sys.stdout = stream
        if stderr:
            sys.stderr = stream
        return stream

    def get_default_logger(self, name: str = "celery") -> logging.Logger:
        """Return the logger ``name``."""
        return logging.getLogger(name)
