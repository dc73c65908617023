"""Leases: how long one is, when a delivery is moved, and what is known of ages without a clock reading a message."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turbo.policy.lease import AgeMarks, length, look_interval, renewal_age, wanted_timeout

ARGUMENT = {"x-consumer-timeout": 60_000}


@pytest.mark.parametrize(
    ("queue", "consumer", "quorum", "version", "expected"),
    [
        ({}, {}, True, (4, 3, 6), 1500.0),
        (ARGUMENT, {}, True, (4, 0, 5), 60.0),
        (ARGUMENT, {}, False, (3, 12, 0), 60.0),
        # Older brokers take the argument and do not read it.
        (ARGUMENT, {}, False, (3, 10, 8), 1500.0),
        (ARGUMENT, {}, False, (3, 11, 99), 1500.0),
        ({}, ARGUMENT, True, (4, 3, 0), 60.0),
        ({"x-consumer-timeout": 90_000}, ARGUMENT, True, (4, 3, 0), 60.0),
        # A consumer's own timeout is new in 4.3, for quorum queues.
        ({}, ARGUMENT, True, (4, 2, 9), 1500.0),
        ({}, ARGUMENT, False, (4, 3, 0), 1500.0),
        # The first versions that read it.
        (ARGUMENT, {}, False, (3, 12), 60.0),
        ({}, ARGUMENT, True, (4, 3), 60.0),
        ({"x-consumer-timeout": 1}, {}, True, (4, 0, 5), 0.001),
        ({"x-consumer-timeout": 0}, {}, True, (4, 0, 5), 1500.0),
        ({"x-consumer-timeout": "soon"}, {}, True, (4, 0, 5), 1500.0),
        ({"x-consumer-timeout": True}, {}, True, (4, 0, 5), 1500.0),
        # It is not known which broker this is.
        (ARGUMENT, {}, True, (), 1500.0),
    ],
)
def test_the_length_is_the_brokers_to_say_where_it_can(
    queue: dict[str, object], consumer: dict[str, object], quorum: bool, version: tuple[int, ...], expected: float
) -> None:
    assert length(queue, consumer, quorum=quorum, version=version, configured=1500.0) == expected


@pytest.mark.parametrize(
    ("hard", "quorum", "version", "expected"),
    [
        (None, True, (4, 3), None),
        (7200.0, True, (4, 3), 14_520_000),
        (7200.0, False, (4, 3), None),
        (7200.0, True, (4, 2), None),
        (30.0, True, (4, 3), None),
        (690.0, True, (4, 3), None),
        (690.001, True, (4, 3), 1_500_002),
    ],
)
def test_a_timeout_is_asked_for_where_the_hard_limit_needs_more(
    hard: float | None, quorum: bool, version: tuple[int, ...], expected: int | None
) -> None:
    assert wanted_timeout(hard, quorum=quorum, version=version, configured=1500.0) == expected


def test_a_task_within_its_asked_timeout_is_over_before_it_would_be_moved() -> None:
    asked = wanted_timeout(7200.0, quorum=True, version=(4, 3), configured=1500.0)
    assert asked is not None
    assert renewal_age(asked / 1000) > 7200.0


@pytest.mark.parametrize(("lease", "moved", "looks"), [(1.0, 0.5, 0.25), (80.0, 40.0, 10.0), (1800.0, 900.0, 60.0)])
def test_a_delivery_is_moved_after_half_of_its_lease(lease: float, moved: float, looks: float) -> None:
    assert (renewal_age(lease), look_interval(lease)) == (moved, looks)


@given(lease=st.floats(1.0, 1e6))
def test_a_delivery_is_moved_well_before_its_lease_ends(lease: float) -> None:
    assert renewal_age(lease) + look_interval(lease) <= 0.75 * lease


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 20.0)), min_size=1, max_size=60),
    age=st.floats(1.0, 50.0),
)
@example(steps=[(0, 1.2690563917265518), (1, 17.0)], age=17.0)
def test_ages_are_never_understated(steps: list[tuple[int, float]], age: float) -> None:
    """Each step: a number of messages arrives, then time passes, then the lease is checked."""
    now, newest, received = 0.0, 0, {}
    marks = AgeMarks(now, keep=age)
    for count, pause in steps:
        for _ in range(count):
            newest += 1
            received[newest] = now
        now += pause
        marks.note(newest, now)
        old = [tag for tag, at in received.items() if now - at >= age]
        bound = marks.newest_of_age(age, now)
        assert all(tag <= bound for tag in old)
        for tag, at in received.items():
            assert marks.most_age(tag, now) >= min(now - at, age) - 1e-9


def test_a_young_delivery_is_left_alone() -> None:
    marks = AgeMarks(0.0, keep=30.0)
    marks.note(0, 100.0)
    marks.note(3, 101.0)
    assert marks.newest_of_age(30.0, 120.0) == 0
    assert marks.most_age(2, 120.0) == 20.0
    assert marks.newest_of_age(30.0, 131.0) == 3


def test_an_age_is_that_of_the_last_mark_before_the_delivery() -> None:
    marks = AgeMarks(0.0, keep=30.0)
    marks.note(3, 101.0)
    marks.note(5, 110.0)
    assert [marks.most_age(tag, 120.0) for tag in (1, 3, 4, 5, 6)] == [120.0, 120.0, 19.0, 19.0, 10.0]


def test_without_deliveries_none_is_old() -> None:
    assert AgeMarks(0.0, keep=30.0).newest_of_age(30.0, 50.0) == 0
