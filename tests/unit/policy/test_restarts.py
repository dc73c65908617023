"""The waiting between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.restarts import BROKER_BACKOFF, Backoff, reconnect_delay

spreads = st.floats(0, 1, exclude_max=True)


@given(st.integers(-5, 10**9), spreads)
def test_never_negative_never_over_the_cap(failures: int, spread: float) -> None:
    assert 0 <= reconnect_delay(failures, spread) <= BROKER_BACKOFF.cap


@given(st.integers(1, 200), spreads, spreads)
def test_it_grows_until_the_cap_and_spreads_over_half(failures: int, one: float, other: float) -> None:
    backoff = Backoff(first=0.5, factor=2, cap=30)
    whole = min(30.0, 0.5 * 2.0 ** (failures - 1))
    assert whole / 2 <= reconnect_delay(failures, one, backoff) <= whole
    assert reconnect_delay(failures + 2, other, backoff) >= reconnect_delay(failures, one, backoff) or whole * 4 > 30


@pytest.mark.parametrize(
    ("failures", "spread", "seconds"),
    [
        (1, 0.0, 0.25),
        (1, 0.5, 0.375),
        (2, 0.0, 0.5),
        (2, 1.0, 1.0),
        (4, 0.5, 3.0),
        (50, 0.0, 15.0),
        # Whatever the random number is, the wait stays between half and all.
        (2, -1.0, 0.5),
        (2, 9.0, 1.0),
    ],
)
def test_the_random_number_chooses_between_half_and_all_of_the_wait(
    failures: int, spread: float, seconds: float
) -> None:
    assert reconnect_delay(failures, spread, Backoff(first=0.5, factor=2, cap=30)) == pytest.approx(seconds)


def test_the_first_attempt_does_not_wait() -> None:
    assert reconnect_delay(0, 0.9) == 0


def test_the_default_leaves_time_to_resume_within_five_seconds() -> None:
    assert BROKER_BACKOFF.cap <= 3


@pytest.mark.parametrize("values", [{"first": 0}, {"factor": 0.5}, {"first": 2, "cap": 1}])
def test_useless_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="backoff"):
        Backoff(**values)


@pytest.mark.parametrize("values", [{"factor": 1}, {"factor": 1.5}, {"first": 3, "cap": 3}, {"first": 0.001}])
def test_a_constant_and_a_slow_backoff_are_possible(values: dict[str, float]) -> None:
    assert reconnect_delay(1, 1.0, Backoff(**values)) == values.get("first", 0.1)
