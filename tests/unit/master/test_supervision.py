"""Unexpected errors in the master's own code are logged, and its loops restart."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from turbo.master import supervision


def _critical(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been slept."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr("turbo.master.supervision.asyncio.sleep", sleep)
    return found


def test_a_loop_that_fails_begins_again_ever_more_slowly(caplog: pytest.LogCaptureFixture, pauses: list[float]) -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 10:
            raise ValueError(f"trouble {runs}")

    asyncio.run(supervision.keep_running("window", work))
    assert runs == 10
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(_critical(caplog)) == 9
    assert "trouble 9" in caplog.text


def test_what_the_start_needs_ends_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    died: list[BaseException] = []
    error = ValueError("no")

    async def work() -> None:
        raise error

    asyncio.run(supervision.or_die(work, died.append))
    assert died == [error]
    assert _critical(caplog)


def test_a_callback_that_raises_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(supervision.report)
        done = asyncio.Event()

        def broken() -> None:
            done.set()
            raise ValueError("out of a callback")

        loop.call_soon(broken)
        await done.wait()

    asyncio.run(main())
    assert len(_critical(caplog)) == 1
    assert "out of a callback" in caplog.text


@pytest.mark.parametrize("context", [{}, {"message": "odd"}, {"message": "odd", "exception": ValueError("x")}])
def test_any_context_is_taken(context: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    loop: Any = None
    supervision.report(loop, context)
    assert len(_critical(caplog)) == 1
