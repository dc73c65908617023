"""The tables of states of a delivery and of a child, which have the same rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from turbo.policy import child_lifecycle, delivery_lifecycle
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import IllegalTransition, State


def _reachable(table: Sequence[frozenset[Any]], start: Any) -> set[Any]:
    seen, front = {start}, [start]
    while front:
        for after in table[front.pop()] - seen:
            seen.add(after)
            front.append(after)
    return seen


@pytest.mark.parametrize(
    ("table", "states", "start", "ends"),
    [
        (delivery_lifecycle.TRANSITIONS, State, State.READY, {State.SETTLED, State.VOID}),
        (child_lifecycle.TRANSITIONS, ChildState, ChildState.STARTING, {ChildState.GONE}),
    ],
)
def test_every_state_can_be_reached_and_every_way_ends(
    table: Sequence[frozenset[Any]], states: type[Any], start: Any, ends: set[Any]
) -> None:
    assert len(table) == len(states)
    assert _reachable(table, start) == set(states)
    assert {state for state in states if not table[state]} == ends
    for state in states:
        assert state not in table[state]
        assert _reachable(table, state) & ends, f"{state} never ends"


@pytest.mark.parametrize(
    ("check", "table", "states", "error"),
    [
        (delivery_lifecycle.check, delivery_lifecycle.TRANSITIONS, State, IllegalTransition),
        (child_lifecycle.check, child_lifecycle.TRANSITIONS, ChildState, RuntimeError),
    ],
)
def test_only_what_the_table_allows(
    check: Callable[[Any, Any], Any], table: Sequence[frozenset[Any]], states: type[Any], error: type[Exception]
) -> None:
    for old, new in itertools.product(states, states):
        if new in table[old]:
            assert check(old, new) is new
        else:
            with pytest.raises(error, match=f"{old.name} to {new.name}"):
                check(old, new)


def test_what_has_ended_never_waits_for_a_child_again() -> None:
    for state in (State.FINISHING, State.SETTLED, State.VOID):
        assert State.READY not in _reachable(delivery_lifecycle.TRANSITIONS, state)


def test_a_child_never_serves_again_once_it_is_retiring() -> None:
    for state in (ChildState.RETIRING, ChildState.KILLED, ChildState.GONE):
        assert ChildState.SERVING not in _reachable(child_lifecycle.TRANSITIONS, state)
