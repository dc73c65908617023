"""The sizes and intervals of batches that tasks may have."""

from __future__ import annotations

import math

import pytest

from turbo.policy.batching import Batch, batch_of


@pytest.mark.parametrize("given", [Batch(100, 10.0), (100, 10), [100, 10.0], Batch(size=100, interval=10)])
def test_a_batch_or_a_pair(given: object) -> None:
    assert batch_of(given) == Batch(100, 10)


def test_none_is_no_batch() -> None:
    assert batch_of(None) is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((0, 10), ValueError),
        ((1, 0), ValueError),
        ((1, -1), ValueError),
        ((1, math.inf), ValueError),
        ((1, math.nan), ValueError),
        ((1.5, 10), TypeError),
        ((True, 10), TypeError),
        ((1, "10"), TypeError),
        ((1, None), TypeError),
        (100, TypeError),
        ((1, 2, 3), TypeError),
        (True, TypeError),
    ],
)
def test_anything_else_is_refused(given: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        batch_of(given)
