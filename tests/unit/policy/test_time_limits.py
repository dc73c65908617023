"""Which of three limits applies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.time_limits import LONGEST, effective


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
