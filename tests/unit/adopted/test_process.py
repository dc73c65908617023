"""The end of a child, as Celery's pool processes end: their loop is left before the last signal is sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import billiard.pool
import pytest
from celery import signals

from turbo.adopted import process


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any]]]:
    found: list[tuple[str, Any]] = []

    def receiver(pid: int, exitcode: int, **_: object) -> None:
        found.append(("signal", exitcode))

    signals.worker_process_shutdown.connect(receiver)
    yield found
    signals.worker_process_shutdown.disconnect(receiver)


def test_the_pools_loop_is_left_first(monkeypatch: pytest.MonkeyPatch, heard: list[tuple[str, Any]]) -> None:
    original = billiard.pool.Worker.workloop

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            heard.append(("loop", None))

    monkeypatch.setattr(billiard.pool.Worker, "workloop", wrapped)
    process.leave(155)
    assert heard == [("loop", None), ("signal", 155)]


def test_a_library_that_raises_there_is_logged(
    monkeypatch: pytest.MonkeyPatch, heard: list[tuple[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("of a library's own")

    monkeypatch.setattr(billiard.pool.Worker, "workloop", broken)
    with caplog.at_level(logging.ERROR):
        process.leave(0)
    assert heard == [("signal", 0)]
    assert "of a library's own" in caplog.text
