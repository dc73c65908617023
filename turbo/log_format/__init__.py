"""Logging of a worker's processes: lines are whole and cannot be forged.

The command sets it up once.

The command sets logging up before anything is forked (:func:`install`); a child then only says who it is
(:func:`enter_child`). ``formats`` makes the lines, ``redirection`` makes lines of what is printed. It must never raise
into the code that logs.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turbo.log_format.formats import (
    TASK_FORMAT,
    WORKER_FORMAT,
    JsonFormatter,
    TaskFormatter,
    TaskRecord,
    WorkerFormatter,
    name_process,
    printable,
    process_name,
)
from turbo.log_format.redirection import RedirectedStream, redirect_stdouts

__all__ = [
    "LEVELS",
    "TASK_FORMAT",
    "TASK_LOGGER",
    "WORKER_FORMAT",
    "JsonFormatter",
    "LineHandler",
    "LogSetup",
    "RedirectedStream",
    "TaskFormatter",
    "WorkerFormatter",
    "enter_child",
    "get_task_logger",
    "install",
    "level_number",
    "name_tasks",
    "printable",
    "process_name",
    "redirect_stdouts",
    "with_index",
]

#: The logger above all that tasks get from ``get_task_logger``; Celery's name: configurations refer to it.
TASK_LOGGER: Final = "celery.task"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")

_STDERR: Final = 2
#: A terminal or pipe that takes nothing for so long (milliseconds) loses the line.
_PATIENCE_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class LogSetup:
    """What :func:`install` is told.

    ``logfile`` may hold ``%i`` and ``%I``, the index of a child.
    """

    level: int = logging.WARNING
    logfile: str | None = None
    worker_format: str = WORKER_FORMAT
    worker_datefmt: str | None = None
    task_format: str = TASK_FORMAT
    task_datefmt: str | None = None
    #: Lines are JSON objects; the formats and the colour do not matter then.
    json: bool = False
    #: None: colour on a terminal, unless NO_COLOR is set.
    colour: bool | None = None
    #: Replace the handlers that the root logger had.
    hijack_root: bool = True
    #: Level of the records that a child makes of what is printed in it; None leaves its streams alone.
    redirect_level: int | None = None


_setup: LogSetup | None = None


def level_number(name: str | int) -> int:
    """The number of a level given by name (any case) or number.

    Raises ValueError for anything else.
    """
    if isinstance(name, int):
        return name
    text = name.strip().upper()
    if text.isdigit():
        return int(text)
    if text not in LEVELS:
        raise ValueError(f"{name!r} is no log level: {', '.join(LEVELS)}")
    return logging.CRITICAL if text == "FATAL" else logging.getLevelNamesMapping()[text]


class LineHandler(logging.Handler):
    """Writes each record with one ``write``, so that processes' lines never mix.

    ``path`` None is standard error. A file is opened for appending, and again once it was rotated away.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self._path = None if path is None else Path(path)
        self._fd = _STDERR
        self._identity: tuple[int, int] | None = None
        #: Lines that could not be written.
        self.lost = 0
        if self._path is not None:
            self._open(self._path)

    def _open(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def _follow(self, path: Path) -> None:
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                return
        except FileNotFoundError:
            # Rotated away and not made anew: that is ours to do, below.
            self._identity = None
        old = self._fd
        self._open(path)
        os.close(old)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record.

        What cannot be written is counted, because there is nowhere to say it.
        """
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            if self._path is not None:
                self._follow(self._path)
            self._write(data)
        except OSError:
            self.lost += 1
        except Exception:  # noqa: BLE001 - a record that does not format is reported by logging itself
            self.handleError(record)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                if not poll.poll(_PATIENCE_MS):
                    raise

    def close(self) -> None:
        """Close the file, if one was opened."""
        if self._path is not None and self._fd != _STDERR:
            os.close(self._fd)
            self._fd = _STDERR
            self._path = None
        super().close()


def with_index(logfile: str, index: int) -> str:
    """Fill in ``%i`` and ``%I``, the child's index.

    For the master, ``%i`` is 0 and ``%I`` nothing; for a child, ``%I`` is ``-index``.
    """
    return logfile.replace("%i", str(index)).replace("%I", f"-{index}" if index else "")


def _wants_colour(setup: LogSetup) -> bool:
    if setup.logfile is not None or not os.isatty(_STDERR):
        return False
    return "NO_COLOR" not in os.environ if setup.colour is None else setup.colour


def install(setup: LogSetup, index: int = 0) -> None:
    """Send the root logger's records and the tasks' to standard error or the file.

    May raise OSError.
    """
    global _setup
    _setup = setup
    path = None if setup.logfile is None else with_index(setup.logfile, index)
    root = logging.getLogger()
    if setup.hijack_root:
        _remove_handlers(root)
    if setup.hijack_root or not root.handlers:
        worker = LineHandler(path)
        worker.setFormatter(_formatter(WorkerFormatter, setup, setup.worker_format, setup.worker_datefmt))
        root.addHandler(worker)
        root.setLevel(setup.level)
    tasks = logging.getLogger(TASK_LOGGER)
    _remove_handlers(tasks)
    task_handler = LineHandler(path)
    task_handler.setFormatter(_formatter(TaskFormatter, setup, setup.task_format, setup.task_datefmt))
    tasks.addHandler(task_handler)
    tasks.setLevel(setup.level)
    tasks.propagate = False
    for chatty in (logging.getLogger("pika"), logging.getLogger("asyncio")):
        if chatty.level == logging.NOTSET:
            chatty.setLevel(max(setup.level, logging.WARNING))
    logging.captureWarnings(True)


def _formatter(kind: type[WorkerFormatter], setup: LogSetup, form: str, datefmt: str | None) -> logging.Formatter:
    return JsonFormatter() if setup.json else kind(form, datefmt, _wants_colour(setup))


def _remove_handlers(logger: logging.Logger) -> None:
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, LineHandler):
            handler.close()


def enter_child(index: int, name: str) -> None:
    """Set up a new child's logging: its name in lines, its file, its streams.

    It has a file of its own if the file's name has the index.
    """
    name_process(name)
    setup = _setup
    if setup is None:
        return
    if setup.logfile is not None and with_index(setup.logfile, index) != setup.logfile:
        install(setup, index)
    if setup.redirect_level is not None:
        redirect_stdouts(setup.redirect_level)


def name_tasks() -> None:
    """Have every record know the task in which it was made, in any format.

    This holds for the process from now on. It has ``task_name`` and ``task_id``, where ``extra`` gives it no others. A
    program's own factory of records stays.
    """
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(TaskRecord)


def get_task_logger(name: str) -> logging.Logger:
    """The logger for a module of tasks: lines carry the task's name and id."""
    if name in ("celery", TASK_LOGGER):
        raise RuntimeError(f"the name {name!r} is reserved")
    logger = logging.getLogger(name)
    ours = logging.getLogger(TASK_LOGGER)
    ancestor: logging.Logger | None = logger
    while ancestor is not None and ancestor is not ours:
        ancestor = ancestor.parent
    if ancestor is None:
        logger.parent = ours
    return logger
