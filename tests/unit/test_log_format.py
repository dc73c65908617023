"""Log lines: Celery's formats, one line a record, nothing forged by what came over the wire."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turbo import current, log_format
from turbo.log_format import (
    JsonFormatter,
    LineHandler,
    LogSetup,
    RedirectedStream,
    TaskFormatter,
    WorkerFormatter,
    formats,
    get_task_logger,
    level_number,
    printable,
    with_index,
)


def record(text: str, *args: object, name: str = "turbo.master", level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "x.py", 1, text, args, None)
    made.created, made.msecs = 0.0, 0.0
    return made


@pytest.fixture
def logging_as_found() -> Iterator[None]:
    """Put the root logger and the tasks' back after a test that installs ours."""
    loggers = [logging.getLogger(name) for name in (None, log_format.TASK_LOGGER, "pika", "asyncio")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    logging.captureWarnings(False)
    for each, handlers, level, propagate in before:
        for handler in each.handlers:
            if handler not in handlers:
                handler.close()
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate


@pytest.mark.row("LG3")
def test_the_worker_format_is_celerys() -> None:
    line = WorkerFormatter(log_format.WORKER_FORMAT, "%Y", False).format(record("ready %d", 1))
    assert line == "[1970: INFO/MainProcess] ready 1"


class Named:
    name = "proj.add"
    id = "task-id"


@pytest.mark.row("LG2", "LG3")
def test_a_tasks_line_has_its_name_and_id() -> None:
    formatter = TaskFormatter(log_format.TASK_FORMAT, "%Y", False)
    assert formatter.format(record("hello")).endswith("???[???]: hello")
    token = current.push(Named, Named)
    try:
        assert formatter.format(record("hello")).endswith("proj.add[task-id]: hello")
    finally:
        current.pop(token)


@pytest.mark.row("LG2")
def test_task_loggers_hang_below_one_logger() -> None:
    logger = get_task_logger("proj.tasks.of.this.test")
    assert logger.parent is logging.getLogger("celery.task")
    assert get_task_logger("proj.tasks.of.this.test") is logger
    with pytest.raises(RuntimeError):
        get_task_logger("celery.task")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("sep\u2028arator", "sep\\u2028arator"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("naïve ☃", "naïve ☃"),
        (b"by\xfftes\n", "by\\xfftes\\n"),
    ],
)
def test_text_from_outside_stays_on_one_line(given: object, shown: str) -> None:
    assert printable(given) == shown


def test_text_from_outside_is_cut() -> None:
    assert printable("x" * 10_000_000, limit=10) == "x" * 10 + "…"
    assert printable(b"x" * 10_000_000, limit=10) == "x" * 10 + "…"


def test_the_worker_never_speaks_to_the_terminal() -> None:
    formatter = WorkerFormatter("%(message)s", None, False)
    assert (
        formatter.format(record("a\x1b]0;owned\x07\nTraceback:\n\tline")) == "a\\x1b]0;owned\\x07\nTraceback:\n\tline"
    )


@pytest.mark.row("LG12")
def test_colour_by_level() -> None:
    formatter = WorkerFormatter("%(message)s", None, True)
    assert formatter.format(record("bad", level=logging.ERROR)) == "\x1b[31mbad\x1b[0m"
    assert formatter.format(record("good")) == "good"


@pytest.mark.row("LG14")
def test_a_record_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    def write(fd: int, data: memoryview) -> int:
        writes.append(bytes(data))
        return len(data)

    handler = LineHandler(str(tmp_path / "log"))
    monkeypatch.setattr(os, "write", write)
    handler.emit(record("x" * 100_000 + "\nand a second line"))
    handler.close()
    assert writes == [b"x" * 100_000 + b"\nand a second line\n"]


@pytest.mark.row("LG1")
def test_a_rotated_file_is_opened_again(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    handler = LineHandler(str(log))
    handler.emit(record("one"))
    log.rename(tmp_path / "worker.log.1")
    handler.emit(record("two"))
    handler.close()
    assert (tmp_path / "worker.log.1").read_text() == "one\n"
    assert log.read_text() == "two\n"


def test_a_line_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    handler = LineHandler("/dev/full")
    handler.emit(record("lost"))
    handler.close()
    assert handler.lost == 1


@pytest.mark.row("LG1", "LG13")
@pytest.mark.usefixtures("logging_as_found")
def test_a_child_writes_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_process_name", "MainProcess")
    log_format.install(LogSetup(logging.INFO, str(tmp_path / "w%I.log"), worker_format="%(processName)s %(message)s"))
    logging.getLogger("turbo.test").info("from the master")
    log_format.enter_child(2, "ForkPoolWorker-2")
    logging.getLogger("turbo.test").info("from the child")
    assert (tmp_path / "w.log").read_text() == "MainProcess from the master\n"
    assert (tmp_path / "w-2.log").read_text() == "ForkPoolWorker-2 from the child\n"


@pytest.mark.row("LG1")
@pytest.mark.usefixtures("logging_as_found")
def test_a_hijacked_root_loses_its_handlers_and_another_keeps_them(tmp_path: Path) -> None:
    root = logging.getLogger()
    own = logging.NullHandler()
    root.addHandler(own)
    log_format.install(LogSetup(logging.INFO, str(tmp_path / "log"), hijack_root=False))
    assert own in root.handlers
    log_format.install(LogSetup(logging.INFO, str(tmp_path / "log")))
    assert [type(handler) for handler in root.handlers] == [LineHandler]


@pytest.mark.row("LG4")
@pytest.mark.usefixtures("logging_as_found")
def test_what_a_child_prints_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_process_name", "MainProcess")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    log = tmp_path / "log"
    log_format.install(
        LogSetup(logging.INFO, str(log), worker_format="%(levelname)s %(message)s", redirect_level=logging.WARNING)
    )
    log_format.enter_child(1, "ForkPoolWorker-1")
    print("hello from a task")
    assert log.read_text() == "WARNING hello from a task\n"


def test_the_index_in_a_file_name() -> None:
    assert with_index("w%I.log", 0) == "w.log"
    assert with_index("w%I.log", 3) == "w-3.log"
    assert with_index("w.%i", 0) == "w.0"


@pytest.mark.row("LG4")
def test_what_is_printed_becomes_records(caplog: pytest.LogCaptureFixture) -> None:
    stream = RedirectedStream(logging.getLogger("celery.redirected"), logging.WARNING)
    print("one\n\ntwo", file=stream)
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "one"),
        ("WARNING", "two"),
    ]


@pytest.mark.parametrize(("given", "number"), [("info", 20), ("FATAL", 50), ("15", 15), (10, 10)])
def test_levels(given: str | int, number: int) -> None:
    assert level_number(given) == number


def test_an_unknown_level_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'LOUD'.*DEBUG, INFO"):
        level_number("LOUD")


class TestTaskRecord:
    """Log records contain their task, whatever formats them."""

    def made(self, **extra: object) -> logging.LogRecord:
        logger = logging.getLogger("turbo.test.records")
        token = current.push(Named, Named)
        try:
            return logger.makeRecord("any.logger", 20, "x.py", 1, "hello", (), None, extra=extra)
        finally:
            current.pop(token)

    @pytest.fixture(autouse=True)
    def named(self) -> Iterator[None]:
        before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(logging.LogRecord)
        log_format.name_tasks()
        yield
        logging.setLogRecordFactory(before)

    @pytest.mark.row("LG2")
    def test_any_formatter_may_ask_for_the_task_afterwards_too(self) -> None:
        form = logging.Formatter("%(task_name)s %(task_id)s %(message)s")
        assert form.format(self.made()) == "proj.add task-id hello"
        assert (self.made().task_name, self.made().task_id) == ("proj.add", "task-id")  # type: ignore[attr-defined]

    def test_extra_may_name_another(self) -> None:
        form = logging.Formatter("%(task_name)s %(task_id)s")
        assert form.format(self.made(task_id="another")) == "proj.add another"
        assert TaskFormatter("%(task_name)s %(task_id)s", None, False).format(self.made(task_id="b")) == "proj.add b"

    def test_outside_of_tasks_the_places_are_marked(self) -> None:
        made = logging.getLogger("turbo.test.records").makeRecord("n", 20, "x.py", 1, "hi", (), None)
        assert logging.Formatter("%(task_name)s[%(task_id)s] %(message)s").format(made) == "???[???] hi"

    def test_it_travels_to_another_process(self) -> None:
        made = pickle.loads(pickle.dumps(self.made()))
        assert logging.Formatter("%(task_name)s %(message)s").format(made) == "proj.add hello"

    def test_a_programs_own_factory_stays(self) -> None:
        class Own(logging.LogRecord):
            pass

        logging.setLogRecordFactory(Own)
        log_format.name_tasks()
        assert logging.getLogRecordFactory() is Own


class TestJson:
    """A line is one JSON object."""

    def line(self, made: logging.LogRecord) -> dict[str, Any]:
        text = JsonFormatter().format(made)
        assert "\n" not in text and text.isascii()
        found: dict[str, Any] = json.loads(text)
        return found

    def with_extra(self, **extra: object) -> logging.LogRecord:
        return logging.getLogger("n").makeRecord("n", logging.WARNING, "x.py", 1, "hi", (), None, extra=extra)

    def test_the_usual(self) -> None:
        assert self.line(record("ready %s", "ä\n")) == {
            "time": "1970-01-01T00:00:00.000+00:00", "level": "INFO", "logger": "turbo.master",
            "message": "ready ä\n", "process": log_format.process_name(), "pid": os.getpid(),
        }  # fmt: skip

    def test_in_a_task(self) -> None:
        token = current.push(Named, Named)
        try:
            line = self.line(record("hi"))
        finally:
            current.pop(token)
        assert (line["task_name"], line["task_id"]) == ("proj.add", "task-id")

    def test_about_a_task(self) -> None:
        line = self.line(self.with_extra(data={"id": "an id", "name": "proj.sub", "runtime": 1.5}))
        assert (line["task_name"], line["task_id"], line["data"]["runtime"]) == ("proj.sub", "an id", 1.5)

    def test_extra_is_there_and_forges_nothing(self) -> None:
        line = self.line(self.with_extra(order=7, who=Named, level="FORGED", pid=0))
        assert (line["order"], line["level"], line["pid"]) == (7, "WARNING", os.getpid())
        assert line["who"] == repr(Named)

    def test_tracebacks(self) -> None:
        try:
            raise ValueError("bo\nom")
        except ValueError:
            made = logging.LogRecord("n", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info(), sinfo="Stack here")
        line = self.line(made)
        assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: bo\nom")
        assert line["stack"] == "Stack here"

    @pytest.mark.parametrize("value", [{(1, 2): 3}, float("nan"), "\ud800", b"\xff"])
    def test_what_is_no_json_is_shown(self, value: object) -> None:
        assert self.line(self.with_extra(value=value, count=1))["count"] == 1

    def test_what_holds_itself_is_shown(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        assert self.line(self.with_extra(loop=loop))["loop"] == "[[...]]"

    @pytest.mark.usefixtures("logging_as_found")
    def test_both_handlers_write_it(self, tmp_path: Path) -> None:
        log_format.install(LogSetup(logging.INFO, str(tmp_path / "log"), json=True, colour=True))
        logging.getLogger("turbo.test").info("one")
        get_task_logger("proj.json.of.this.test").info("two")
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [(line["logger"], line["message"]) for line in lines] == [
            ("turbo.test", "one"), ("proj.json.of.this.test", "two"),
        ]  # fmt: skip


def test_a_redirected_stream_has_all_that_a_text_stream_has(caplog: pytest.LogCaptureFixture) -> None:
    stream = RedirectedStream(logging.getLogger("celery.redirected.members"), logging.WARNING)
    missing = [name for name in dir(sys.__stdout__) if not name.startswith("_") and not hasattr(stream, name)]
    assert missing == []
    missing = [name for name in dir(io.BufferedWriter(io.BytesIO())) if not name.startswith("_")]
    assert [name for name in missing if not hasattr(stream.buffer, name)] == []
    stream.reconfigure(line_buffering=True, encoding="latin-1", errors="replace")
    with caplog.at_level(logging.WARNING):
        assert stream.buffer.write("bytes ö\n".encode()) == 9
        assert stream.buffer.write(memoryview(b"broken \xff\n")) == 9
        stream.writelines(["one\n", "two\n"])
        print("printed", file=stream, flush=True)
        with stream:
            stream.write("within")
        stream.write("after its close")
    assert [record.message for record in caplog.records] == [
        "bytes ö", "broken \\xff", "one", "two", "printed", "within", "after its close",
    ]  # fmt: skip
    assert (stream.readable(), stream.seekable(), stream.writable(), stream.isatty()) == (False, False, True, False)
    with pytest.raises(io.UnsupportedOperation):
        stream.read()
    assert stream.fileno() == stream.buffer.fileno() == 2
    assert not stream.closed and not stream.buffer.closed
