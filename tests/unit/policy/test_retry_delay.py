"""The delay of an automatic retry: doubled, bounded, spread."""

from __future__ import annotations

import pytest

from turbo.policy.retry_delay import backoff


@pytest.mark.parametrize(("retries", "seconds"), [(0, 3), (1, 6), (2, 12), (5, 96), (6, 100), (10**9, 100)])
def test_it_doubles_up_to_the_longest(retries: int, seconds: int) -> None:
    assert backoff(3, retries, 100) == seconds


def test_it_is_never_negative() -> None:
    assert backoff(-3, 2, 100) == backoff(3, 2, -1) == 0


def test_jitter_draws_from_zero_to_the_whole_delay() -> None:
    assert backoff(3, 1, 100, lambda below: below - 1) == 6
    assert backoff(3, 1, 100, lambda below: 0) == 0
