"""The soft limit of a task in a thread: raised in its body, once, never outside of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.child.soft_limited_threads import ThreadSoftLimits
from turbo.exceptions import SoftTimeLimitExceeded


class Running:
    """Task 7 in a thread of its own, and the outcome of its body."""

    def __init__(self, body: Callable[[Running], Any]) -> None:
        page: Any = SimpleNamespace(detached=False, soft_named=lambda: 7)
        self.limits = ThreadSoftLimits(page)
        self.began = threading.Event()
        #: The body ends when this is set, if it looks.
        self.go = threading.Event()
        self.outcome: Any = None
        self._body = body
        self.limits.open(7)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def expire(self) -> None:
        deadline = time.monotonic() + 30
        while not self.limits.expire(7):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def end(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.outcome

    def _run(self) -> None:
        try:
            self.outcome = self.limits.call(7, self._body, (self,), {})
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            self.outcome = error
        # A limit that is raised outside of the body would end this loop.
        for _ in range(1000):
            time.sleep(0)


def spin(running: Running) -> str:
    running.began.set()
    while not running.go.is_set():
        pass
    return "done"


def test_it_is_raised_between_two_steps_of_the_body() -> None:
    running = Running(spin)
    assert running.began.wait(30)
    running.expire()
    assert type(running.end()) is SoftTimeLimitExceeded


def test_it_is_raised_once_and_a_body_that_catches_it_goes_on() -> None:
    def body(running: Running) -> str:
        try:
            spin(running)
        except SoftTimeLimitExceeded:
            running.began.clear()
        running.began.set()
        while not running.go.is_set():
            pass
        return "caught"

    running = Running(body)
    assert running.began.wait(30)
    running.expire()
    while running.began.is_set() and not running.limits._guards[7]._spent:
        time.sleep(0)
    assert running.began.wait(30)
    running.expire()
    running.go.set()
    assert running.end() == "caught"


def test_a_limit_that_passed_before_the_body_is_raised_when_it_begins() -> None:
    page: Any = SimpleNamespace(detached=False)
    limits = ThreadSoftLimits(page)
    limits.open(7)
    assert limits.expire(7)
    with pytest.raises(SoftTimeLimitExceeded):
        limits.call(7, pytest.fail, (), {})


def test_one_that_comes_too_late_reaches_nobody() -> None:
    running = Running(lambda _: "done")
    assert running.end() == "done"
    running.expire()
    running.limits.close(7)
    running.expire()
    assert not running.limits.armed


def test_turbos_own_code_is_never_interrupted() -> None:
    def body(running: Running) -> list[str]:
        seen = []
        running.limits.mask()
        try:
            running.began.set()
            running.go.wait(30)
            for _ in range(1000):
                time.sleep(0)
            seen.append("whole")
        finally:
            try:
                running.limits.unmask()
            except SoftTimeLimitExceeded:
                seen.append("limit")
        return seen

    running = Running(body)
    assert running.began.wait(30)
    running.expire()
    running.go.set()
    assert running.end() == ["whole", "limit"]


def test_the_lock_of_the_log_is_never_left_locked() -> None:
    writing, written = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            writing.set()
            written.wait(30)

    handler = Slow()
    logger = logging.Logger("slow")
    logger.addHandler(handler)

    def body(running: Running) -> str:
        logger.warning("a line")
        return spin(running)

    running = Running(body)
    assert writing.wait(30)
    assert not running.limits.expire(7), "it is tried again later"
    written.set()
    running.expire()
    assert type(running.end()) is SoftTimeLimitExceeded
    assert handler.lock is not None and handler.lock.acquire(timeout=30)


@pytest.mark.parametrize("number", range(200))
def test_whenever_it_comes_it_is_the_outcome_of_the_body_or_nothing(number: int) -> None:
    """Around the end of the body, of code that masks it, and of its own handler."""

    def body(running: Running) -> str:
        running.began.set()
        for _ in range(number):
            running.limits.mask()
            running.limits.unmask()
        return "done"

    running = Running(body)
    assert running.began.wait(30)
    running.expire()
    outcome = running.end()
    assert outcome == "done" or type(outcome) is SoftTimeLimitExceeded


def test_the_signal_names_the_task() -> None:
    page: Any = SimpleNamespace(detached=False, soft_named=lambda: 7)
    limits, named = ThreadSoftLimits(page), []
    limits.on_signal.add(named.append)
    limits._handle(10, None)
    assert named == [7]


def test_each_thread_has_its_own_number() -> None:
    page: Any = SimpleNamespace(detached=False)
    limits = ThreadSoftLimits(page)
    limits.running = 5
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(limits.running))
    thread.start()
    thread.join(30)
    assert (limits.running, seen) == (5, [0])
