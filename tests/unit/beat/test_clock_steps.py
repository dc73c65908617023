"""What entries do when the wall clock is put forward or back: over clocks that the tests set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app, recording
from turbo.beat import BeatLazyFunc, Scheduler
from turbo.beat.runs import Run
from turbo.schedules import crontab, schedule

pytestmark = pytest.mark.row("P35")

#: 12:00:10 on a Tuesday.
START = datetime(2026, 6, 2, 12, 0, 10, tzinfo=UTC)
MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR


class Site:
    """A scheduler with one entry, and its clocks."""

    def __init__(self, kind: Any) -> None:
        self.real = 0.0
        self.set_by = 0.0
        #: Seconds of real time since the start at each run.
        self.runs: list[float] = []
        entry = {"task": "proj.tick", "schedule": kind(self.now), "args": [BeatLazyFunc(self._note)]}
        self.scheduler = Scheduler(
            make_app(beat_schedule={"tick": entry}), wall=lambda: self.now().timestamp(), monotonic=lambda: self.real
        )

    def now(self) -> datetime:
        return START + timedelta(seconds=self.real + self.set_by)

    def _note(self) -> None:
        self.runs.append(self.real)

    def run(self, seconds: float) -> list[float]:
        """Tick for so long; return the times of the runs in it, in seconds from its begin."""
        begin, before = self.real, len(self.runs)
        end = begin + seconds
        ticks = 0
        while self.real < end:
            pause = self.scheduler.tick()
            self.real = min(end, self.real + max(pause, 0.001))
            ticks += 1
        assert ticks < 50 * (seconds / MINUTE + 10), "beat does not sleep"
        return [at - begin for at in self.runs[before:]]


def interval(now: Any) -> Any:
    return schedule(MINUTE, nowfun=now)


def each_minute(now: Any) -> Any:
    return crontab(nowfun=now)


def daily(now: Any) -> Any:
    return crontab(hour=12, minute=1, nowfun=now)


def minutes(found: list[float]) -> list[int]:
    return [round(at / MINUTE) for at in found]


@pytest.fixture(autouse=True)
def sent() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.mark.parametrize("by", [30.0, 10 * MINUTE, HOUR, 400 * DAY])
def test_an_interval_goes_on_when_the_clock_is_put_back(by: float, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(interval)
    assert minutes(site.run(150)) == [1, 2]
    site.set_by -= by
    assert site.run(5 * MINUTE) == pytest.approx([30, 90, 150, 210, 270], abs=1)
    assert caplog.text.count("The clock was put back by") == 1


@pytest.mark.parametrize("by", [5.0, 10 * MINUTE, 55 * MINUTE])
def test_a_crontab_repeats_no_run_when_the_clock_is_put_back(by: float) -> None:
    site = Site(each_minute)
    assert len(site.run(5 * MINUTE)) == 5
    last = site.runs[-1]
    site.set_by -= by
    found = site.run(by + 2 * MINUTE)
    assert found[0] == pytest.approx(last + MINUTE + by - 5 * MINUTE, abs=1)
    assert [later - sooner for sooner, later in pairwise(found)] == pytest.approx([MINUTE] * (len(found) - 1), abs=1)


def test_a_daily_run_is_not_repeated() -> None:
    site = Site(daily)
    assert site.run(10 * MINUTE) == pytest.approx([50], abs=1)
    site.set_by -= 30 * MINUTE
    assert site.run(2 * HOUR) == []


def test_a_crontab_goes_by_a_clock_that_was_far_ahead(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(each_minute)
    site.run(5 * MINUTE)
    site.set_by -= 400 * DAY
    assert len(site.run(5 * MINUTE)) == 5
    assert "the last run of tick is now in the future; its runs are counted from now" in caplog.text


@pytest.mark.parametrize("kind", [interval, each_minute, daily])
@pytest.mark.parametrize("by", [10 * MINUTE, 3 * DAY])
def test_a_step_forward_or_a_suspend_sends_one_run_and_no_storm(kind: Any, by: float) -> None:
    site = Site(kind)
    site.run(30)
    site.set_by += by
    found = site.run(5 * MINUTE)
    # One run for all that were skipped, and the regular ones.
    assert found[0] < 1
    regular = 5 if kind is not daily else 1 if by > DAY else 0
    assert len(found) in (regular, regular + 1)
    assert min([later - sooner for sooner, later in pairwise(found)], default=MINUTE) > 9


def test_many_small_steps_repeat_and_lose_no_interval() -> None:
    site = Site(interval)
    for number in range(60):
        site.run(MINUTE)
        site.set_by += 20 if number % 2 else -20
    assert len(site.runs) in range(59, 90)
    assert min(later - sooner for sooner, later in pairwise(site.runs)) > 35


def test_a_stored_run_of_a_clock_that_was_ahead_stops_no_interval() -> None:
    site = Site(interval)
    site.scheduler.take_over({"tick": Run(site.now() + timedelta(minutes=50), 9)})
    assert site.run(5 * MINUTE)[0] == pytest.approx(MINUTE, abs=1)
    assert site.scheduler.schedule["tick"].total_run_count >= 13


def test_a_stored_run_of_a_clock_that_was_ahead_is_not_repeated_by_a_crontab() -> None:
    site = Site(daily)
    site.scheduler.take_over({"tick": Run(site.now() + timedelta(minutes=2), 9)})
    assert site.run(HOUR) == []
