"""A command line that is run up to the worker itself: an app in the working directory, and what would have run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from turbo.master import os_signals
from turbo.native import facade
from turbo.worker import wiring

APP = """
from turbo import Turbo
app = Turbo("proj", broker="amqp://me:secret@localhost//", backend="redis://:hidden@localhost/1",
            set_as_current=False)

@app.task
def add(x, y):
    return x + y
"""


class Ran:
    """What the command would have run."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []
        self.code = 0
        self.beat: list[str] = []

    def __call__(self, app: Any, options: Any, beat: Sequence[str], fresh: Any, earlier: Sequence[Any]) -> int:
        self.calls.append((app, options))
        self.beat = list(beat)
        return self.code


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Put environment and signals back: a command hands its global options on by the first, and handles the others."""
    before = dict(os.environ)
    with os_signals.kept():
        yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ran]:
    """Stands in for ``wiring.run`` and for the logging that would replace pytest's; never root."""
    for name in (
        "CELERY_BROKER_URL",
        "CELERY_BROKER_READ_URL",
        "CELERY_BROKER_WRITE_URL",
        "CELERY_RESULT_BACKEND",
    ):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(facade, "install", lambda setup: None)
    double = Ran()
    monkeypatch.setattr(wiring, "run", double)
    yield double
    logging.captureWarnings(False)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str) -> str:
    """The name of a module with an app, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{unique}.py").write_text(APP)
    return unique
