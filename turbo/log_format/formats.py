"""How a record becomes a line: Celery's two formats, or a JSON object.

Below the handler that writes the lines. Runs in the master and in children. Text that came over the wire goes through
:func:`printable` before it is logged, so that a message can neither forge a second line nor speak to the terminal.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from turbo import current

WORKER_FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: The same, but for what a formatted record may hold: its traceback has lines and indents.
_CONTROL_IN_RECORD: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS: Final = {"DEBUG": 34, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}
#: What formats show for the name and the id of a task where none runs; Celery's.
_NO_TASK: Final = "???"

_process_name = "MainProcess"


def printable(value: object, limit: int = 400) -> str:
    """Text from outside, fit for a log line.

    It is one line without control characters, at most ``limit`` long.
    """
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


def name_process(name: str) -> None:
    """Say who this process is in its log lines."""
    global _process_name
    _process_name = name


def process_name() -> str:
    """Who this process is in its log lines: ``MainProcess``, ``ForkPoolWorker-1`` …"""
    return _process_name


class WorkerFormatter(logging.Formatter):
    """Celery's worker format: process name, escaped text, colour by level."""

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


class TaskRecord(logging.LogRecord):
    """A record that knows its task: ``task_name`` and ``task_id``.

    They come into being when first looked at, or with the message: what ``extra`` says of them then is there already
    and stays. (A factory that set them would make ``extra`` raise.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        frame = current.top()
        self._task = (_NO_TASK, _NO_TASK) if frame is None else _named(frame)

    @cached_property
    def task_name(self) -> str:
        """The task's name, ``???`` outside of tasks."""
        return self._task[0]

    @cached_property
    def task_id(self) -> str:
        """The task's id, ``???`` outside of tasks."""
        return self._task[1]

    def getMessage(self) -> str:
        """Return the message.

        The two attributes are in ``__dict__`` from now on, where formats look.
        """
        _ = self.task_name, self.task_id
        return super().getMessage()


def _named(frame: current.Frame) -> tuple[str, str]:
    return getattr(frame.task, "name", _NO_TASK), getattr(frame.request, "id", _NO_TASK)


class TaskFormatter(WorkerFormatter):
    """The format of what tasks log: with the running task's name and id.

    Their own text is left as it is.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        if not isinstance(record, TaskRecord):
            frame = current.top()
            name, identifier = (_NO_TASK, _NO_TASK) if frame is None else _named(frame)
            record.__dict__.setdefault("task_name", name)
            record.__dict__.setdefault("task_id", identifier)
        return super().format(record)

    def _clean(self, text: str) -> str:
        return text


#: What every record has; the rest came with ``extra``.
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime", "message", "taskName", "task_id", "task_name", "_task",
}  # fmt: skip


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII.

    It has ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, ``process``, ``pid``; ``task_name`` and
    ``task_id`` where a task runs or the line is about one; ``exception`` and ``stack`` where there are any; and
    whatever ``extra`` had.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record. What is no JSON is shown by its ``repr``."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": _process_name,
            "pid": record.process,
            **_about(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        for name, value in vars(record).items():
            if name not in _USUAL:
                line.setdefault(name, value)
        try:
            return json.dumps(line, default=repr, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            # Keys that are no text, numbers that JSON has not, a value that holds itself.
            return json.dumps({key: value if type(value) in (str, int) else repr(value) for key, value in line.items()})


def _about(record: logging.LogRecord) -> dict[str, str]:
    """The task that a record is about: that of its making, or in its ``data``."""
    said = vars(record)
    data = said.get("data")
    if isinstance(data, dict) and "id" in data and "name" in data:
        return {"task_name": str(data["name"]), "task_id": str(data["id"])}
    frame = current.top()
    name, identifier = (_NO_TASK, _NO_TASK) if frame is None else _named(frame)
    name, identifier = said.get("task_name", name), said.get("task_id", identifier)
    return {} if identifier == _NO_TASK else {"task_name": str(name), "task_id": str(identifier)}
