"""Which differences between two clocks are steps."""

from __future__ import annotations

import pytest

from turbo.policy.clock_step import ClockStep


@pytest.mark.row("P35")
@pytest.mark.parametrize(
    ("wall", "monotonic", "step"),
    [
        (1060.0, 160.0, 0.0),
        (1059.5, 160.0, 0.0),
        (4660.0, 160.0, 3600.0),
        (-2540.0, 160.0, -3600.0),
        (1001.0, 102.0, -1.0),
    ],
)
def test_a_step_of_a_second_or_more(wall: float, monotonic: float, step: float) -> None:
    clocks = ClockStep()
    assert clocks.look(1000.0, 100.0) == 0
    assert clocks.look(wall, monotonic) == step
    assert clocks.look(wall + 5, monotonic + 5) == 0


def test_a_slow_drift_is_no_step() -> None:
    clocks = ClockStep()
    assert not any(clocks.look(1000.0 + second * 1.01, second) for second in range(1000))
