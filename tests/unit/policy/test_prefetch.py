"""The prefetch window: its goal, its pace, its bounds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.prefetch import HOLD_OFF, SHORT, WindowFacts, goal, next_window, own

FACTS = WindowFacts(
    current=8,
    floor=8,
    ceiling=256,
    runtime=0.0,
    concurrency=2,
    held=0,
    most_held=100_000,
    others=8,
    message_size=0,
    byte_budget=64 * 2**20,
    since_swap=1000.0,
    since_wanted=0.0,
    pause=1.0,
    first=False,
)

facts_of_any_kind = st.builds(
    WindowFacts,
    current=st.integers(1, 65_535),
    floor=st.integers(1, 2000),
    ceiling=st.integers(0, 2000),
    runtime=st.floats(0, 10_000),
    concurrency=st.integers(1, 500),
    held=st.integers(0, 100_000),
    most_held=st.integers(0, 100_000),
    others=st.integers(0, 70_000),
    message_size=st.integers(0, 2**27),
    byte_budget=st.just(64 * 2**20),
    since_swap=st.floats(0, 100),
    since_wanted=st.floats(0, 100),
    pause=st.floats(0, 10),
    first=st.booleans(),
    resized=st.booleans(),
    since_long=st.floats(0, 100),
    batch_room=st.integers(0, 100_000),
)


@pytest.mark.row("CN2")
@pytest.mark.parametrize(
    ("changed", "window"),
    [
        ({}, 8),
        ({"runtime": 10.0}, 8),
        ({"runtime": 0.001}, 42),
        ({"runtime": 0.00001}, 256),
        # It grows for tasks of a few milliseconds only, and not soon after all children were in long ones.
        ({"runtime": SHORT, "floor": 2}, 10),
        ({"runtime": SHORT + 0.001, "floor": 2}, 2),
        ({"runtime": 0.00001, "since_long": HOLD_OFF - 0.1}, 8),
        ({"runtime": 0.00001, "since_long": HOLD_OFF - 0.1, "held": 100}, 108),
        ({"runtime": 0.00001, "ceiling": 4}, 8),
        ({"runtime": 0.00001, "message_size": 2**20}, 64),
        ({"runtime": 0.00001, "message_size": 2**27}, 8),
        ({"runtime": 0.00001, "message_size": 1, "byte_budget": 100}, 100),
        ({"held": 100}, 108),
        ({"held": 100_000}, 65_535),
        ({"held": 100, "most_held": 60}, 68),
        ({"held": 1, "others": 3, "current": 4}, 256 + 1),
        # Held messages fill the window: all of the room that it may have is made for what comes after them.
        ({"held": 5, "others": 3, "current": 8}, 256 + 5),
        ({"held": 5, "others": 3, "current": 8, "ceiling": 8}, 8 + 5),
        ({"held": 5, "others": 3, "current": 8, "message_size": 2**20}, 64 + 5),
        ({"held": 60, "others": 3, "current": 63, "most_held": 60}, 68),
        # There is work besides them, or the queue is empty.
        ({"held": 5, "others": 4, "current": 9}, 13),
        ({"held": 5, "others": 3, "current": 9}, 13),
    ],
)
def test_goal(changed: dict[str, float], window: int) -> None:
    assert goal(replace(FACTS, **changed)) == window  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "window"),
    [
        ({}, 8),
        # The first step may go all the way, later ones double.
        ({"runtime": 1e-5, "first": True, "since_swap": 0.0}, 256),
        ({"runtime": 1e-5}, 16),
        ({"runtime": 1e-5, "since_swap": 0.9}, 8),
        ({"runtime": 1e-5, "since_swap": 1.0}, 16),
        ({"runtime": 1e-3, "current": 32}, 42),
        # Room for held messages is made at once, but not between two swaps.
        ({"held": 100}, 108),
        ({"held": 100, "since_swap": 0.5}, 8),
        # So is room for batches.
        ({"batch_room": 100}, 108),
        ({"batch_room": 100, "since_swap": 0.5}, 8),
        ({"batch_room": 100_000}, 65_535),
        # Narrowing waits, and is not done for little.
        ({"current": 256, "runtime": 1.0, "since_wanted": HOLD_OFF - 0.1}, 256),
        ({"current": 256, "runtime": 1.0, "since_wanted": HOLD_OFF}, 8),
        ({"current": 15, "runtime": 1.0, "since_wanted": 100.0}, 15),
        # After a change of the number of children the window follows in both directions, but not between two swaps.
        ({"current": 4, "floor": 32, "resized": True}, 32),
        ({"current": 10, "resized": True}, 8),
        ({"current": 10, "resized": True, "since_swap": 0.5}, 10),
        ({"current": 16, "runtime": 1.0, "since_wanted": 100.0}, 8),
    ],
)
def test_next_window(changed: dict[str, float], window: int) -> None:
    assert next_window(replace(FACTS, **changed)) == window  # type: ignore[arg-type]


@given(facts=facts_of_any_kind)
def test_never_without_a_window_never_more_than_the_protocol_has(facts: WindowFacts) -> None:
    window = next_window(facts)
    assert 1 <= window <= 65_535
    assert min(facts.floor + min(facts.held, facts.most_held), 65_535) <= goal(facts) <= 65_535
    low, high = sorted((facts.current, goal(facts)))
    assert low <= window <= high


@given(facts=facts_of_any_kind)
def test_a_fixed_window_moves_for_held_messages_and_batches_only(facts: WindowFacts) -> None:
    fixed = replace(facts, ceiling=facts.floor, held=0, batch_room=0)
    assert goal(fixed) == fixed.floor


@given(facts=facts_of_any_kind)
def test_the_own_window_is_never_above_the_goal(facts: WindowFacts) -> None:
    assert own(facts) <= goal(facts)
    assert own(facts) == goal(replace(facts, runtime=0.0, ceiling=0, current=65_535))


@given(facts=facts_of_any_kind)
def test_it_reaches_its_goal_and_stays_there(facts: WindowFacts) -> None:
    """Time passes and nothing else changes: no oscillation, and at most twice too wide in the end.

    One that held messages fill is widened to look for work behind them, and narrows again where there is none.
    """
    windows = [facts.current]
    for _ in range(40):
        # A change of the number of children is answered once.
        resized = facts.resized and len(windows) == 1
        now = replace(facts, current=windows[-1], since_swap=1000.0, since_wanted=1000.0, first=False, resized=resized)
        windows.append(next_window(now))
    assert windows[-1] == windows[-2]
    in_the_end = goal(replace(facts, current=windows[-1]))
    assert in_the_end <= windows[-1] < 2 * in_the_end or windows[-1] == in_the_end
    steps = [later - earlier for earlier, later in itertools.pairwise(windows) if later != earlier]
    turns = sum((before > 0) != (after > 0) for before, after in itertools.pairwise(steps))
    assert turns <= (1 if facts.held else 0)
