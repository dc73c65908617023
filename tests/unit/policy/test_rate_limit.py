"""Rate limits: their syntax is Celery's, and their buckets do what kombu's do."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import pytest
from celery.utils.time import rate as celerys_rate
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import limits

from turbo.policy.rate_limit import TokenBucket, faults, per_second

RATES = st.floats(1e-4, 1e4)
STEPS = st.lists(st.one_of(st.floats(0, 100), st.floats(0, 0.01)), max_size=30)


@pytest.mark.row("TM15")
@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        (None, 0.0),
        (0, 0.0),
        ("", 0.0),
        ("0/m", 0.0),
        (False, 0.0),
        (3, 3.0),
        (0.5, 0.5),
        ("10", 10.0),
        ("10/", 10.0),
        ("10/s", 10.0),
        ("0.5/s", 0.5),
        ("90/m", 1.5),
        ("1e2/m", 100 / 60),
        ("1800/h", 0.5),
    ],
)
def test_the_syntax_is_celerys(limit: str | float | None, rate: float) -> None:
    assert per_second(limit) == pytest.approx(rate)
    assert per_second(limit) == pytest.approx(celerys_rate(limit))  # type: ignore[arg-type]


@pytest.mark.row("TM15")
@pytest.mark.parametrize("limit", ["often", "10/d", "/s", "-1/s", -2, "nan", math.inf, "inf/h", [1], object()])
def test_nothing_else_is_a_rate(limit: object) -> None:
    with pytest.raises(ValueError):
        per_second(limit)


def test_every_task_whose_limit_cannot_be_read_is_named() -> None:
    assert faults([("a", "10/s"), ("b", "1/d"), ("c", None), ("d", "often")]) == [
        "rate_limit='1/d' of task b: unknown unit 'd': the units are s, m and h",
        "rate_limit='often' of task d: could not convert string to float: 'often'",
    ]


@pytest.mark.row("TM16")
@given(rate=RATES, steps=STEPS)
def test_a_bucket_does_what_kombus_does(rate: float, steps: list[float]) -> None:
    now = 1000.0
    with mock.patch.object(limits, "monotonic", lambda: now):
        theirs, ours = limits.TokenBucket(rate, capacity=1), TokenBucket(rate, now)
        for step in (0.0, *steps):
            now += step
            assert ours.wait(now) == pytest.approx(theirs.expected_time(1))
            assert ours.take(now) == theirs.can_consume(1)


@pytest.mark.row("TM16")
@given(rate=RATES, steps=STEPS)
def test_the_time_between_two_tokens_is_never_shorter_than_the_rate_allows(rate: float, steps: list[float]) -> None:
    now, taken = 0.0, []
    bucket = TokenBucket(rate, now)
    for step in (0.0, *steps):
        now += step
        if bucket.take(now):
            taken.append(now)
    assert taken[0] == 0.0, "a new bucket is full"
    for before, after in itertools.pairwise(taken):
        assert after - before >= 1 / rate * (1 - 1e-6) - 1e-6


def test_a_token_is_there_when_its_time_has_come() -> None:
    bucket = TokenBucket(100 / 60, 0.0)
    assert bucket.take(0.0)
    assert bucket.wait(0.0) == pytest.approx(0.6)
    assert not bucket.take(0.599)
    assert bucket.take(0.601)


def test_a_new_rate_counts_from_its_change_and_gives_no_token() -> None:
    bucket = TokenBucket(1 / 3600, 0.0)
    assert bucket.take(0.0)
    bucket.change(10.0, 360.0)
    assert not bucket.is_ready(360.0)
    assert bucket.wait(360.0) == pytest.approx(0.09)
