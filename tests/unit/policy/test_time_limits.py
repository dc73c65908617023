"""Which of three limits applies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.time_limits import GRACE_NS, LONGEST, TICK_NS, RunningClock, effective, not_run, on_arrival

#: Nanoseconds.
SECOND = 1_000_000_000


@pytest.mark.row("PL8")
@pytest.mark.parametrize(
    ("header", "task", "worker", "limit"),
    [
        (None, None, None, None),
        (None, None, 3, 3.0),
        (None, 2, 3, 2.0),
        (1, 2, 3, 1.0),
        (4, 2, 3, 4.0),
        (0, 2, 3, 2.0),
        (0, 0, 3, 3.0),
        (-1, 2, 3, 2.0),
        ("1", 2, 3, 2.0),
        (True, 2, 3, 2.0),
        (0.25, None, None, 0.25),
        (math.nan, 2, None, 2.0),
        (math.inf, None, None, LONGEST),
        (31_536_000 * 30, None, None, 946_080_000.0),  # thirty years
        (10**40, None, None, LONGEST),
    ],
)
def test_precedence(header: object, task: float | None, worker: float | None, limit: float | None) -> None:
    assert effective(header, task, worker) == limit


@given(
    header=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    task=st.none() | st.floats(0, 1e12),
    worker=st.none() | st.floats(0, 1e12),
)
def test_whatever_a_header_says_the_limit_is_none_or_fits_a_clock(
    header: object, task: float | None, worker: float | None
) -> None:
    limit = effective(header, task, worker)
    assert limit is None or 0 < limit <= LONGEST


@pytest.mark.parametrize(
    ("asked", "elapsed", "late_before", "lost"),
    [
        (SECOND, SECOND, False, 0),
        (SECOND, 2 * SECOND, False, 0),  # a loaded machine
        (SECOND, 2 * SECOND + 1, False, 2 * SECOND + 1),
        (0, 9 * SECOND, False, 9 * SECOND),
        # Half a second before its limit a task was stopped for a minute: the half is not taken from it.
        (SECOND // 2, 60 * SECOND, False, 60 * SECOND),
        (SECOND // 2, 60 * SECOND, True, 60 * SECOND - SECOND // 2),
        (SECOND, 2 * SECOND, True, 0),
    ],
)
def test_time_between_timers_that_counts_for_no_limit(asked: int, elapsed: int, late_before: bool, lost: int) -> None:
    assert not_run(asked, elapsed, late_before=late_before) == lost


def test_an_old_start_was_reported_before_a_stop() -> None:
    assert on_arrival(SECOND) == 0
    assert on_arrival(SECOND + 1) == SECOND + 1


def test_the_running_clock_leaves_out_a_stop_once() -> None:
    clock = RunningClock()
    assert clock.look(100 * SECOND) == 0, "no timer was asked for"
    clock.ask(100 * SECOND, SECOND)
    assert clock.look(100 * SECOND + 5) == 0
    assert clock.look(130 * SECOND) == 30 * SECOND
    assert clock.look(130 * SECOND) == 0
    assert clock.stopped == 30 * SECOND
    clock.ask(130 * SECOND, SECOND)
    assert clock.look(131 * SECOND) == 0
    # The timer was in time: the next late one counts whole again.
    clock.ask(131 * SECOND, SECOND)
    assert clock.look(134 * SECOND) == 3 * SECOND


def test_a_timer_that_comes_a_little_early_is_in_time() -> None:
    clock = RunningClock()
    clock.ask(0, SECOND)
    assert clock.look(9 * SECOND) == 9 * SECOND
    clock.ask(9 * SECOND, SECOND)
    assert clock.look(10 * SECOND - 500_000) == 0
    clock.ask(10 * SECOND, SECOND)
    assert clock.look(19 * SECOND) == 9 * SECOND
    clock.ask(19 * SECOND, SECOND)
    assert clock.look(20 * SECOND - 2_000_000) == 0
    clock.ask(20 * SECOND, SECOND)
    assert clock.look(29 * SECOND) == 9 * SECOND


def test_a_look_before_the_timer_leaves_it_running() -> None:
    clock = RunningClock()
    clock.ask(0, SECOND)
    assert clock.look(SECOND - 2_000_001) == 0
    assert clock.look(9 * SECOND) == 9 * SECOND, "all since the timer was set"


@pytest.mark.parametrize(
    ("due", "wait"),
    [(100 * SECOND, 0), (100 * SECOND + 7, 7), (101 * SECOND, SECOND), (102 * SECOND, SECOND), (10**18, SECOND)],
)
def test_a_timer_reaches_its_time_or_lasts_a_second(due: int, wait: int) -> None:
    """A stop is noticed by a late timer, so none may be long."""
    assert RunningClock().timer(due, 100 * SECOND) == wait


def test_a_timer_leaves_out_the_time_of_a_stop() -> None:
    clock = RunningClock()
    clock.ask(100 * SECOND, SECOND)
    assert clock.look(110 * SECOND) == 10 * SECOND
    assert clock.timer(100 * SECOND, 110 * SECOND) == 0
    assert clock.timer(100 * SECOND + 5, 110 * SECOND) == 5


def test_a_timer_for_a_time_that_has_passed_is_due_at_once() -> None:
    assert RunningClock().timer(5, 100 * SECOND) == 0


@given(late=st.lists(st.integers(0, 10 * SECOND), min_size=60, max_size=60))
def test_the_clock_goes_on_however_late_its_timers_are(late: list[int]) -> None:
    clock, now, ran = RunningClock(), 0, 0
    for index, by in enumerate(late):
        clock.ask(now, TICK_NS)
        now += TICK_NS + by
        clock.look(now)
        assert ran <= now - clock.stopped, "it never goes back"
        ran = now - clock.stopped
        assert ran >= (index - 1) // 2 * TICK_NS
        assert ran <= (index + 1) * (TICK_NS + GRACE_NS)
