"""Which suspects are given up, which are at their last chance, and which may begin beside others."""

from __future__ import annotations

import pytest

from turbo.policy.suspects import is_last_chance, is_spent, may_begin


@pytest.mark.parametrize(
    ("deaths", "spent", "last"), [(0, False, False), (1, False, False), (2, False, True), (3, True, True)]
)
def test_the_last_of_three_deaths_is_near_after_two(deaths: int, spent: bool, last: bool) -> None:
    assert (is_spent(deaths, 3), is_last_chance(deaths, 3)) == (spent, last)


@pytest.mark.parametrize(
    ("last_chance", "running", "last_chance_runs", "expected"),
    [
        (False, 0, False, True),
        (False, 5, False, True),
        (False, 1, True, False),
        (True, 0, False, True),
        (True, 1, False, False),
        (True, 1, True, False),
    ],
)
def test_one_at_its_last_chance_begins_alone(
    last_chance: bool, running: int, last_chance_runs: bool, expected: bool
) -> None:
    assert may_begin(last_chance, running, last_chance_runs) is expected
