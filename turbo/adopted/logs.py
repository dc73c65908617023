"""Sets logging up for a Celery app by Celery's own code.

So its signals, formats and redirection are Celery's.

``set_up`` runs in the command, before anything is forked; children inherit the handlers. ``enter_child`` runs in each
child, where it opens a log file whose name holds the child's index. It must never touch the logging of an app that
replaces it by ``setup_logging``.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from celery._state import get_current_task
from celery.utils.log import ColorFormatter

from turbo.log_format import TASK_LOGGER, JsonFormatter, printable

if TYPE_CHECKING:
    from celery import Celery

    from turbo.log_format import LogSetup

#: Libraries whose INFO lines are of no use to an operator.
_CHATTY = ("pika", "asyncio")

#: Celery's loggers whose records hold names from messages, and the keys of those names.
_NAMING_TASKS = ("celery.app.trace", "celery.worker.request", "celery.worker.strategy", "celery.worker.control",
                 "celery.worker.consumer.consumer")  # fmt: skip
_FROM_THE_MESSAGE = ("name", "id", "args", "kwargs")
_LONGEST = 4000

#: Whether lines are JSON. Written by :func:`set_up` in the command; children inherit it.
_json = False


class LineBreakEscaper(logging.Filter):
    """Escapes line breaks in names and ids that come from messages.

    Celery's loggers log them unchanged. The ``data`` of a record, which programs read, is not changed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record, with these values on one line."""
        args = record.args
        if isinstance(args, dict):
            wrong = [key for key in _FROM_THE_MESSAGE if not str(args.get(key, "")).isprintable()]
            if wrong:
                record.args = {**args, **{key: printable(args[key], _LONGEST) for key in wrong}}
        elif isinstance(args, tuple):
            record.args = tuple(
                arg if not isinstance(arg, str) or arg.isprintable() else printable(arg, _LONGEST) for arg in args
            )
        return True


class TaskJsonFormatter(JsonFormatter):
    """Formats JSON lines with the running Celery task's name and id."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        task = get_current_task()
        if task is not None and task.request:
            record.__dict__.setdefault("task_name", task.name)
            record.__dict__.setdefault("task_id", task.request.id)
        return super().format(record)


def _write_json() -> None:
    """Replace Celery's formatters by JSON; keep formatters of the app."""
    for logger in (logging.getLogger(), logging.getLogger(TASK_LOGGER)):
        for handler in logger.handlers:
            if isinstance(handler.formatter, ColorFormatter):
                handler.setFormatter(TaskJsonFormatter())


def set_up(app: Celery, setup: LogSetup, hostname: str) -> None:
    """Do what ``celery worker`` does with ``-l``, ``-f`` and the settings."""
    colour = False if os.environ.get("NO_COLOR") else setup.colour
    for name in _NAMING_TASKS:
        logging.getLogger(name).addFilter(LineBreakEscaper())
    taken_over = app.log.setup(setup.level, setup.logfile, redirect_stdouts=False, colorize=colour, hostname=hostname)
    if taken_over:
        return
    global _json
    _json = setup.json
    if _json:
        _write_json()
    for name in _CHATTY:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(max(setup.level, logging.WARNING))
    if setup.redirect_level is not None:
        # By name: a child reads the level from the environment, where Celery understands names alone.
        app.log.redirect_stdouts(logging.getLevelName(setup.redirect_level))


def enter_child(app: Celery, hostname: str) -> None:
    """Set logging up again if this child has its own file.

    It takes the settings from the environment that ``set_up`` has left.
    """
    logfile = os.environ.get("CELERY_LOG_FILE") or None
    if logfile and "%i" in logfile.lower():
        app.log.already_setup = False
    app.log.setup(
        int(os.environ.get("CELERY_LOG_LEVEL") or 0),
        logfile,
        bool(os.environ.get("CELERY_LOG_REDIRECT")),
        str(os.environ.get("CELERY_LOG_REDIRECT_LEVEL")),
        hostname=hostname,
    )
    if _json:
        _write_json()
