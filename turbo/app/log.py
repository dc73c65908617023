"""``app.log``: logging functions for tasks at run time, under Celery's names.

Runs in a child, whose logging ``log_format`` sets up at its start. A task may redirect what it prints to a logger of
its own for a while. It must never install handlers: those are the worker's.
"""

from __future__ import annotations

import logging
import sys

from turbo import log_format
from turbo.log_format import formats


class TaskFormatter(formats.TaskFormatter):
    """A format with ``%(task_name)s`` and ``%(task_id)s``, for own handlers.

    ``???`` stands for both outside a task. ``use_color`` colours whole lines by their level.
    """

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt or "%(message)s", datefmt, use_color)


class Log:
    """The logging of an app's processes."""

    def redirect_stdouts_to_logger(
        self, logger: logging.Logger, loglevel: str | int | None = None, stdout: bool = True, stderr: bool = True
    ) -> log_format.RedirectedStream:
        """Log every line printed from now on to ``logger``, at ``loglevel``.

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
