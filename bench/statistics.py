"""Medians, percentiles, and ratios round by round."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["median", "percentile", "ratios"]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values")
    rank = max(1, -int(-len(ordered) * percent // 100))
    return ordered[rank - 1]


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """``ours / theirs`` for each round in which both were measured."""
    return [a / b for a, b in zip(ours, theirs, strict=True) if a is not None and b]
