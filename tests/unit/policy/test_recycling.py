"""When a child is spent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.recycling import MemoryAction, at_once, default_hard_limit, may_take, memory_action


@pytest.mark.parametrize(
    ("rss", "limit", "hard", "action"),
    [
        (10**9, None, None, MemoryAction.KEEP),
        (100, 100, None, MemoryAction.KEEP),
        (101, 100, None, MemoryAction.RETIRE),
        (101, None, 100, MemoryAction.KILL),
        (100, None, 100, MemoryAction.KEEP),
        (150, 100, 200, MemoryAction.RETIRE),
        (201, 100, 200, MemoryAction.KILL),
        (201, 300, 200, MemoryAction.KILL),
    ],
)
def test_memory(rss: int, limit: int | None, hard: int | None, action: MemoryAction) -> None:
    assert memory_action(rss, limit=limit, hard_limit=hard) is action


@pytest.mark.parametrize(
    ("group", "kib"),
    [
        (10 * 2**30, 8 * 2**20),
        (2**30, 838_860),
        (640 * 2**20, 512 * 1024),
        (300 * 2**20, 172 * 1024),
        (256 * 2**20, 128 * 1024),
        (256 * 2**20 - 1, None),
        (0, None),
    ],
)
def test_a_fifth_of_the_group_and_at_least_128_mib_are_left_to_the_others(group: int, kib: int | None) -> None:
    assert default_hard_limit(group) == kib


LIMIT = st.none() | st.integers(1, 1000)


@given(less=st.integers(0, 2000), more=st.integers(0, 2000), limit=LIMIT, hard=LIMIT)
def test_more_memory_never_gives_a_milder_action(less: int, more: int, limit: int | None, hard: int | None) -> None:
    less, more = sorted((less, more))
    assert memory_action(less, limit=limit, hard_limit=hard) <= memory_action(more, limit=limit, hard_limit=hard)


@pytest.mark.parametrize(("children", "replaced"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (32, 8)])
def test_at_once(children: int, replaced: int) -> None:
    assert at_once(children) == replaced


@given(limit=st.integers(1, 50), choices=st.lists(st.booleans(), max_size=300))
def test_exactly_the_limit_is_ever_given(limit: int, choices: list[bool]) -> None:
    done = outstanding = 0
    for give in choices:
        if give and may_take(done, outstanding, limit):
            outstanding += 1
        elif outstanding:
            done, outstanding = done + 1, outstanding - 1
        assert done + outstanding <= limit
    while may_take(done, outstanding, limit):
        outstanding += 1
    assert done + outstanding == limit


def test_a_child_that_has_too_many_gets_none() -> None:
    assert may_take(3, 2, 4) == 0


def test_no_limit() -> None:
    assert may_take(10**6, 100, None) > 10**6
