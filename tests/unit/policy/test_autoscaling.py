"""How many children an autoscaled worker has, under loads of every kind."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.autoscaling import KEEPALIVE, Autoscaling

#: Pairs of limits.
limits = st.tuples(st.integers(1, 12), st.integers(0, 12)).filter(lambda pair: pair[1] <= pair[0])
#: Steps of a load: seconds until then, tasks, and how many of the children that are not needed are idle.
loads = st.lists(st.tuples(st.floats(0.001, 20), st.integers(0, 30), st.integers(0, 12)), max_size=60)


@pytest.mark.row("PL20")
@given(limits, loads)
def test_it_grows_at_once_and_never_ends_a_child_that_was_needed_lately(
    pair: tuple[int, int], load: list[tuple[float, int, int]]
) -> None:
    most, least = pair
    policy = Autoscaling(most, least)
    children, now = least, 0.0
    needed: deque[tuple[float, int]] = deque()
    grown_at = -KEEPALIVE
    for seconds, tasks, idle in load:
        now += seconds
        needed.append((now, min(max(tasks, least), most)))
        wanted = policy.wanted(children, tasks, now)
        assert least <= wanted <= most
        assert wanted >= needed[-1][1], "grows at once"
        if wanted < children:
            lately = [number for when, number in needed if when > now - KEEPALIVE]
            assert wanted >= max(lately), "a child needed within the time stays"
            assert now - grown_at >= KEEPALIVE, "what was started just now is not ended"
            # Busy children stay, whatever the policy says.
            children = max(wanted, children - idle)
        elif wanted > children:
            assert wanted == needed[-1][1], "grows to what is needed and no further"
            children, grown_at = wanted, now


@pytest.mark.row("PL20")
@given(limits, st.integers(0, 30), st.integers(0, 30))
def test_a_constant_load_gets_what_it_needs_within_the_keepalive(
    pair: tuple[int, int], before: int, tasks: int
) -> None:
    most, least = pair
    policy = Autoscaling(most, least)
    children = policy.wanted(least, before, 0.0)
    for step in range(1, 70):
        children = policy.wanted(children, tasks, step / 2)
    assert children == min(max(tasks, least), most)


@pytest.mark.row("PL20")
def test_a_load_that_comes_and_goes_within_the_keepalive_keeps_its_children() -> None:
    policy = Autoscaling(8, 1)
    children, seen = 1, []
    for second in range(100):
        children = policy.wanted(children, 6 if second % 10 == 0 else 0, float(second))
        seen.append(children)
    assert set(seen) == {6}
    assert [policy.wanted(6, 0, when) for when in (119.0, 119.9, 121.1)] == [6, 6, 1]


def test_limits_can_be_changed() -> None:
    policy = Autoscaling(8, 1)
    assert policy.wanted(1, 20, 0.0) == 8
    policy.set_limits(3, 2)
    assert policy.wanted(8, 20, 1.0) == 3
    assert policy.wanted(3, 0, 100.0) == 2
    policy.set_limits(9, 5)
    assert policy.wanted(2, 0, 101.0) == 5


@pytest.mark.parametrize(("most", "least"), [(0, 0), (-1, 0), (2, 3), (2, -1)])
def test_limits_that_no_pool_can_keep_are_refused(most: int, least: int) -> None:
    with pytest.raises(ValueError, match="cannot have"):
        Autoscaling(most, least)
    policy = Autoscaling(2, 1)
    with pytest.raises(ValueError, match="cannot have"):
        policy.set_limits(most, least)
    assert (policy.most, policy.least) == (2, 1)
