"""How long tasks are believed to take, and how many a child may therefore hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.look_ahead import (
    LOOK_AHEAD_NS,
    MAX_DEPTH,
    batch,
    depth,
    estimate,
    gives_back,
    grows,
    is_overdue,
    lasts,
    typical,
)

RUN_TIMES = st.integers(0, 10**13)


@pytest.mark.parametrize(
    ("estimate_ns", "records"),
    [
        (0, 1),
        (1, 64),
        (LOOK_AHEAD_NS // MAX_DEPTH, MAX_DEPTH),
        (100_000, 21),
        (1_000_000, 3),
        (LOOK_AHEAD_NS, 2),
        (LOOK_AHEAD_NS + 1, 2),
        (20_000_000, 2),
        (20_000_001, 1),
        (10**12, 1),
    ],
)
def test_depth(estimate_ns: int, records: int) -> None:
    assert depth(estimate_ns) == records


@given(shorter=st.integers(1, 10**12), longer=st.integers(1, 10**12))
def test_longer_tasks_are_never_held_deeper(shorter: int, longer: int) -> None:
    shorter, longer = sorted((shorter, longer))
    assert 1 <= depth(longer) <= depth(shorter) <= MAX_DEPTH


@given(estimate_ns=st.integers(1, 10**12))
def test_what_is_held_ahead_is_two_milliseconds_of_work_or_one_record(estimate_ns: int) -> None:
    ahead = depth(estimate_ns) - 1
    assert ahead <= 1 or ahead * estimate_ns <= LOOK_AHEAD_NS


@pytest.mark.parametrize(
    ("believed", "sample", "then"),
    [
        (0, 50_000, 50_000),
        (0, 3, 1_000),
        (16_000, 32_000, 17_000),
        (16_000, 0, 15_000),
        # One that took a second counts as eight times what was believed.
        (16_000, 10**9, 23_000),
        (1_000, 1, 1_000),
    ],
)
def test_a_run_time_moves_the_estimate_by_a_sixteenth(believed: int, sample: int, then: int) -> None:
    assert estimate(believed, sample) == then


@given(samples=st.lists(RUN_TIMES, min_size=1))
def test_the_estimate_is_within_what_was_seen(samples: list[int]) -> None:
    believed = 0
    for sample in samples:
        believed = estimate(believed, sample)
        assert believed >= 1_000
    assert max(1_000, min(samples)) <= believed <= max(1_000, *samples)


@given(start=st.integers(1_000, 10**9), steady=st.integers(1_000, 10**9))
def test_the_estimate_comes_near_a_steady_run_time(start: int, steady: int) -> None:
    believed = start
    for _ in range(400):
        believed = estimate(believed, steady)
    # Divisions that round down leave up to fifteen nanoseconds.
    assert abs(believed - steady) <= 16


def test_one_slow_task_in_a_hundred_does_not_end_the_look_ahead() -> None:
    believed = 0
    for _ in range(10):
        for _ in range(99):
            believed = estimate(believed, 50_000)
        believed = estimate(believed, 1_000_000_000)
        assert depth(believed) > 20


@pytest.mark.parametrize(
    ("ahead", "estimate_ns", "children", "wanted"),
    [(0, 10_000, 2, False), (199, 10_000, 2, False), (200, 10_000, 2, True), (100, 10_000, 1, True), (5, 0, 1, False)],
)
def test_work_ahead_lasts_for_a_pause_of_all_children(
    ahead: int, estimate_ns: int, children: int, wanted: bool
) -> None:
    assert lasts(ahead, estimate_ns, children, 1_000_000) is wanted


@pytest.mark.parametrize(
    ("typical_ns", "records"),
    [(0, 1), (1_000, 16), (20_000, 11), (100_000, 3), (200_000, 2), (200_001, 1), (10**10, 1)],
)
def test_a_batch_is_a_fifth_of_a_millisecond_of_work(typical_ns: int, records: int) -> None:
    assert batch(typical_ns) == records


def test_what_is_typical_does_not_follow_a_few_long_tasks() -> None:
    moving = 0
    for number in range(1_000):
        moving = typical(moving, 10**9 if number % 10 == 9 else 20_000)
    assert 15_000 < moving < 25_000


@given(steady=st.integers(2_000, 10**9))
def test_what_is_typical_comes_near_a_steady_run_time(steady: int) -> None:
    moving = 1_000
    for _ in range(400):
        moving = typical(moving, steady)
    assert abs(moving - steady) <= steady // 8


@pytest.mark.parametrize(
    ("held", "size", "age_ns", "wanted"),
    [(1, 11, 0, True), (10, 11, 500_000, True), (11, 11, 0, False), (1, 11, 500_001, False), (1, 1, 0, False)],
)
def test_a_batch_grows_for_half_a_millisecond_after_its_childs_last_news(
    held: int, size: int, age_ns: int, wanted: bool
) -> None:
    assert grows(held, size, age_ns) is wanted


@pytest.mark.parametrize("begun", [False, True])
def test_nothing_is_put_behind_a_task_that_has_run_for_4_milliseconds(begun: bool) -> None:
    assert not is_overdue(4_000_000, in_batches=False, begun=begun)
    assert is_overdue(4_000_001, in_batches=False, begun=begun)


def test_a_batch_that_has_not_begun_may_grow_for_50_milliseconds() -> None:
    assert is_overdue(4_000_001, in_batches=True, begun=True)
    assert not is_overdue(50_000_000, in_batches=True, begun=False)
    assert is_overdue(50_000_001, in_batches=True, begun=False)


def test_a_free_child_gets_what_waits_behind_a_task_of_4_milliseconds_and_a_busy_one_of_20() -> None:
    assert not gives_back(4_000_000, to_a_free_child=True)
    assert gives_back(4_000_001, to_a_free_child=True)
    assert not gives_back(20_000_000, to_a_free_child=False)
    assert gives_back(20_000_001, to_a_free_child=False)
