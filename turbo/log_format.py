"""How a log line looks and how it reaches its file: Celery's formats, one write a line, nothing forged.

The command sets logging up once, before anything is forked (:func:`install`); a child then only says who
it is (:func:`enter_child`). Text that came over the wire goes through :func:`printable` before it is logged,
so that a message can neither forge a second line nor speak to the terminal. It must never raise into the code
that logs.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turbo import current

WORKER_FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
#: The logger above all that tasks get from ``get_task_logger``; Celery's name: configurations refer to it.
TASK_LOGGER: Final = "celery.task"
#: What tasks print is logged here.
REDIRECTED_LOGGER: Final = "celery.redirected"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")

_STDERR: Final = 2
#: A terminal or pipe that takes nothing for so long (milliseconds) loses the line.
_PATIENCE_MS: Final = 1000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: The same, but for what a formatted record may hold: its traceback has lines and indents.
_CONTROL_IN_RECORD: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS: Final = {"DEBUG": 34, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}

_process_name = "MainProcess"


@dataclass(frozen=True, slots=True)
class LogSetup:
    """What :func:`install` is told. ``logfile`` may hold ``%i`` and ``%I``, the index of a child."""

    level: int = logging.WARNING
    logfile: str | None = None
    worker_format: str = WORKER_FORMAT
    worker_datefmt: str | None = None
    task_format: str = TASK_FORMAT
    task_datefmt: str | None = None
    #: None: colour on a terminal, unless NO_COLOR is set.
    colour: bool | None = None
    #: Replace the handlers that the root logger had.
    hijack_root: bool = True
    #: Level of the records that a child makes of what is printed in it; None leaves its streams alone.
    redirect_level: int | None = None


_setup: LogSetup | None = None


def level_number(name: str | int) -> int:
    """The number of a level given by name (any case) or number; raises ValueError for anything else."""
    if isinstance(name, int):
        return name
    text = name.strip().upper()
    if text.isdigit():
        return int(text)
    if text not in LEVELS:
        raise ValueError(f"{name!r} is no log level: {', '.join(LEVELS)}")
    return logging.CRITICAL if text == "FATAL" else logging.getLevelNamesMapping()[text]


def printable(value: object, limit: int = 400) -> str:
    """Text from outside, fit for a log line: one line, no control characters, at most ``limit`` long."""
    if isinstance(value, bytes | bytearray | memoryview):
        text = bytes(value[: limit + 1]).decode("utf-8", "backslashreplace")
    else:
        text = str(value)
    cut = text[:limit]
    if not cut.isprintable():
        cut = _CONTROL.sub(_escape, cut)
    return cut if len(text) <= limit else cut + "…"


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


def process_name() -> str:
    """Who this process is in its log lines: ``MainProcess``, ``ForkPoolWorker-1`` …"""
    return _process_name


class WorkerFormatter(logging.Formatter):
    """Celery's worker format: this process's name, control characters escaped, colour by level if asked."""

    def __init__(self, form: str, datefmt: str | None, colour: bool) -> None:
        super().__init__(form, datefmt)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        record.processName = _process_name
        text = super().format(record)
        text = self._clean(text)
        number = _COLOURS.get(record.levelname) if self._colour else None
        return text if number is None else f"\x1b[{number}m{text}\x1b[0m"

    def _clean(self, text: str) -> str:
        return _CONTROL_IN_RECORD.sub(_escape, text)


class TaskFormatter(WorkerFormatter):
    """The format of what tasks log: with the running task's name and id. Their own text is left as it is."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        frame = current.top()
        record.__dict__.setdefault("task_name", getattr(frame.task, "name", "???") if frame else "???")
        record.__dict__.setdefault("task_id", getattr(frame.request, "id", "???") if frame else "???")
        return super().format(record)

    def _clean(self, text: str) -> str:
        return text


class LineHandler(logging.Handler):
    """Writes each record with one ``write`` call, so that lines of several processes never mix.

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
        """Write one record; what cannot be written is counted, because there is nowhere to say it."""
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
    """Fill in ``%i`` (the child's index; 0 for the master) and ``%I`` (``-index``; the master: nothing)."""
    return logfile.replace("%i", str(index)).replace("%I", f"-{index}" if index else "")


def _wants_colour(setup: LogSetup) -> bool:
    if setup.logfile is not None or not os.isatty(_STDERR):
        return False
    return "NO_COLOR" not in os.environ if setup.colour is None else setup.colour


def install(setup: LogSetup, index: int = 0) -> None:
    """Send the root logger's records and the tasks' to standard error or the file. May raise OSError."""
    global _setup
    _setup = setup
    path = None if setup.logfile is None else with_index(setup.logfile, index)
    colour = _wants_colour(setup)
    root = logging.getLogger()
    if setup.hijack_root:
        _remove_handlers(root)
    if setup.hijack_root or not root.handlers:
        worker = LineHandler(path)
        worker.setFormatter(WorkerFormatter(setup.worker_format, setup.worker_datefmt, colour))
        root.addHandler(worker)
        root.setLevel(setup.level)
    tasks = logging.getLogger(TASK_LOGGER)
    _remove_handlers(tasks)
    task_handler = LineHandler(path)
    task_handler.setFormatter(TaskFormatter(setup.task_format, setup.task_datefmt, colour))
    tasks.addHandler(task_handler)
    tasks.setLevel(setup.level)
    tasks.propagate = False
    for chatty in ("pika", "asyncio"):
        logging.getLogger(chatty).setLevel(max(setup.level, logging.WARNING))
    logging.captureWarnings(True)


def _remove_handlers(logger: logging.Logger) -> None:
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, LineHandler):
            handler.close()


def enter_child(index: int, name: str) -> None:
    """In a new child: its name for log lines, its own file if the file's name has the index, its streams."""
    global _process_name
    _process_name = name
    setup = _setup
    if setup is None:
        return
    if setup.logfile is not None and with_index(setup.logfile, index) != setup.logfile:
        install(setup, index)
    if setup.redirect_level is not None:
        redirect_stdouts(setup.redirect_level)


def get_task_logger(name: str) -> logging.Logger:
    """The logger for a module of tasks: its lines carry the running task's name and id."""
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


class RedirectedStream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``: what is written becomes log records, a line each."""

    encoding = "utf-8"
    errors = "backslashreplace"
    mode = "w"
    name = None
    closed = False

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        self._inside = False

    def write(self, text: str) -> int:
        """Log the lines of ``text``; what logging itself writes while it does so is dropped."""
        if self._inside:
            return 0
        self._inside = True
        try:
            for line in text.rstrip().splitlines():
                if line.strip():
                    self._logger.log(self._level, "%s", line)
        finally:
            self._inside = False
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Log each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Programs may try; the stream stays."""

    def isatty(self) -> bool:
        """Never a terminal."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor that log lines go to by default, for programs that must have one."""
        return _STDERR


def redirect_stdouts(level: int = logging.WARNING, logger: logging.Logger | None = None) -> None:
    """Turn what this process prints from now on into log records of ``celery.redirected``."""
    stream = RedirectedStream(logger or logging.getLogger(REDIRECTED_LOGGER), level)
    sys.stdout = stream
    sys.stderr = stream
