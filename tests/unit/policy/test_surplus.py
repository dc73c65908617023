"""When messages beyond the app's own window go back to the broker."""

from __future__ import annotations

import pytest

from turbo.policy.surplus import LONG_NS, admitted, all_long, exceeding

NOW = 10**12
LONG = NOW - LONG_NS


@pytest.mark.parametrize(
    ("moved", "wanted"),
    [
        ([], False),
        ([NOW], False),
        ([LONG], True),
        ([LONG + 1], False),
        ([LONG, LONG - 10**9], True),
        # One child still takes short tasks, or is free.
        ([LONG, LONG + 1], False),
        ([LONG, NOW], False),
    ],
)
def test_all_children_must_be_in_long_tasks(moved: list[int], wanted: bool) -> None:
    assert all_long(NOW, moved) is wanted


@pytest.mark.parametrize(
    ("unsettled", "wanted"), [({}, []), ({"q": 2}, []), ({"q": 3, "r": 2}, ["q"]), ({"q": 2, "r": 2}, [])]
)
def test_each_queue_has_a_window_of_its_own(unsettled: dict[str, int], wanted: list[str]) -> None:
    assert exceeding(2, unsettled) == wanted


@pytest.mark.parametrize(
    ("own", "occupied", "may_pause", "window"),
    [
        (2, 0, True, 2),  # acknowledged early: running tasks take no room
        (2, 2, True, 0),  # acknowledged late: they take it all
        (8, 2, True, 6),
        (2, 3, True, 0),
        (2, 2, False, 1),
    ],
)
def test_what_runs_unacknowledged_takes_its_part_of_the_window(
    own: int, occupied: int, may_pause: bool, window: int
) -> None:
    assert admitted(own, occupied, may_pause=may_pause) == window
