"""turbo's schedules against Celery's: the same last run and the same clock give the same answer."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery import schedules as celerys
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from turbo import Turbo, schedules

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
#: Times around which clocks are put forward or back somewhere, and a leap day.
TURNS = (
    datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC), datetime(2025, 3, 9, 7, tzinfo=UTC),
    datetime(2025, 11, 2, 6, tzinfo=UTC), datetime(2025, 4, 5, 15, tzinfo=UTC), datetime(2025, 10, 4, 15, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC),
)  # fmt: skip

moments = st.one_of(
    st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC)),
    st.builds(
        lambda turn, seconds: turn + timedelta(seconds=seconds), st.sampled_from(TURNS), st.integers(-10800, 10800)
    ),
)


def field(lowest: int, highest: int) -> st.SearchStrategy[Any]:
    """A field of a crontab in each of its forms."""
    number = st.integers(lowest, highest)
    step = st.integers(1, highest)
    part = st.one_of(
        number.map(str),
        st.just("*"),
        step.map("*/{}".format),
        st.builds("{}-{}".format, number, number),
        st.builds("{}-{}/{}".format, number, number, step),
    )
    return st.one_of(
        st.just("*"), number, st.sets(number, min_size=1), st.lists(part, min_size=1, max_size=3).map(",".join)
    )


crontabs = st.fixed_dictionaries(
    {"minute": field(0, 59), "hour": field(0, 23)},
    optional={
        "day_of_week": st.one_of(field(0, 6), st.sampled_from(["mon-fri", "sat,sun", "Sunday", "fri-mon"])),
        "day_of_month": field(1, 31),
        "month_of_year": st.one_of(field(1, 12), st.sampled_from(["jan-mar", "feb", "december"])),
    },
)


class Pair:
    """The same schedule of both libraries, with one clock."""

    def __init__(self, kind: str, zone: str, now: datetime, *args: Any, deadline: int | None = None, **kw: Any) -> None:
        ours, theirs = Turbo("ours", set_as_current=False), Celery("theirs", set_as_current=False)
        for app in (ours, theirs):
            app.conf.timezone = zone
            app.conf.beat_cron_starting_deadline = deadline
        self.ours = getattr(schedules, kind)(*args, **kw, nowfun=lambda: now, app=ours)
        self.theirs = getattr(celerys, kind)(*args, **kw, nowfun=lambda: now, app=theirs)

    def agree(self, last: datetime) -> None:
        assert self.ours.remaining_estimate(last) == self.theirs.remaining_estimate(last)
        assert tuple(self.ours.is_due(last)) == pytest.approx(tuple(self.theirs.is_due(last)))


def twice(when: datetime, zone: str) -> bool:
    """Whether the clock shows this time twice, or is about to, within the hours around it."""
    local = when.astimezone(ZoneInfo(zone))
    return any((local + timedelta(hours=hours)).replace(fold=1).astimezone(UTC)
               != (local + timedelta(hours=hours)).replace(fold=0).astimezone(UTC) for hours in (-1, 0, 1))  # fmt: skip


@settings(max_examples=300)
@given(
    spec=crontabs,
    zone=st.sampled_from(ZONES),
    now=moments,
    ago=st.one_of(st.integers(-60, 7200), st.integers(0, 40 * 86400)),
    deadline=st.none() | st.integers(0, 7200),
)
def test_crontabs(spec: dict[str, Any], zone: str, now: datetime, ago: int, deadline: int | None) -> None:
    last = now - timedelta(seconds=ago)
    # In an hour that occurs twice Celery finds a past time due again and again: see the next test.
    assume(not twice(last, zone) and not twice(now, zone))
    try:
        pair = Pair("crontab", zone, now, deadline=deadline, **spec)
    except ValueError:
        with pytest.raises(ValueError, match="nvalid"):
            celerys.crontab(**spec)
        return
    pair.agree(last)
    assert (pair.ours.minute, pair.ours.hour) == (pair.theirs.minute, pair.theirs.hour)


@given(minute=field(0, 59), seconds=st.integers(0, 3599))
def test_an_hour_that_occurs_twice_repeats_no_run(minute: Any, seconds: int) -> None:
    """The only difference: a restart in the second of the two hours is no reason to run at once, for ever."""
    now = datetime(2025, 10, 26, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    ours = Pair("crontab", "Europe/Berlin", now, minute).ours
    is_due, left = ours.is_due(now)
    assert not is_due
    assert 0 < left <= 3600


@settings(max_examples=300)
@given(
    seconds=st.one_of(st.integers(1, 3 * 86400), st.floats(0.25, 100), st.sampled_from([60, 3600, 86400, 604800])),
    relative=st.booleans(),
    zone=st.sampled_from(ZONES),
    now=moments,
    ago=st.integers(-60, 4 * 86400),
)
def test_intervals(seconds: float, relative: bool, zone: str, now: datetime, ago: int) -> None:
    last = now - timedelta(seconds=ago)
    for frame in (last, last.astimezone(ZoneInfo(zone)), last.replace(tzinfo=None)):
        Pair("schedule", zone, now, seconds, relative).agree(frame)


@settings(max_examples=60)
@given(
    event=st.sampled_from(sorted(celerys.solar._all_events)),
    lat=st.integers(-90, 90),
    lon=st.integers(-180, 180),
    now=moments,
    ago=st.integers(0, 3 * 86400),
)
def test_the_sun(event: str, lat: int, lon: int, now: datetime, ago: int) -> None:
    Pair("solar", "Europe/Berlin", now, event, lat, lon).agree(now - timedelta(seconds=ago))


@pytest.mark.parametrize("spec", ["", "60", "-1", "*/", "1-", "x", "5-70", ",", "*/0", "1,,2", "mo", "*-3"])
def test_what_is_no_expression(spec: str) -> None:
    with pytest.raises((ValueError, schedules.ParseException)):
        schedules.crontab(minute=spec)
    with pytest.raises((ValueError, celerys.ParseException)):
        celerys.crontab(minute=spec)


@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.crontab("*/5", 3, "mon-fri"),
        lambda lib: lib.crontab.from_string("0 4 1 */2 *"),
        lambda lib: lib.schedule(90),
        lambda lib: lib.solar("sunset", 48.2, 16.4),
    ],
)
def test_they_read_and_copy_alike(make: Any) -> None:
    ours, theirs = make(schedules), make(celerys)
    assert repr(ours) == repr(theirs)
    assert pickle.loads(pickle.dumps(ours)) == ours


def test_a_schedule_of_celerys_serves_an_app_of_turbos() -> None:
    """A module of settings that still imports celery.schedules."""
    app = Turbo("ours", set_as_current=False, timezone="Asia/Tokyo")
    found = schedules.maybe_schedule(celerys.crontab(minute=0, hour=9), app=app)
    last = datetime(2025, 1, 1, 23, 0, tzinfo=UTC)
    found.nowfun = lambda: last
    assert found.is_due(last).next == 3600
