"""The count of deaths that a message carries."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.poison import DELIVERIES, REASON, deaths, exhausted, needs_look
from turbo.protocol.own_headers import REJECTED


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        (None, 0),
        ({}, 0),
        ({DELIVERIES: 3}, 3),
        ({DELIVERIES: 1}, 1),
        ({DELIVERIES: -3}, 0),
        ({DELIVERIES: True}, 0),
        ({DELIVERIES: "3"}, 0),
        ({DELIVERIES: 3.0}, 0),
        ({DELIVERIES: None}, 0),
    ],
)
def test_deaths(headers: dict[str, object] | None, count: int) -> None:
    assert deaths(headers) == count


@given(value=st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats())
def test_no_header_makes_a_count_that_is_none(value: Any) -> None:
    assert deaths({DELIVERIES: value}) >= 0


def test_the_error_says_how_often_and_how_last() -> None:
    assert "5 deliveries" in str(exhausted({DELIVERIES: 5, REASON: "signal 9 (SIGKILL)"}))
    assert "signal 9 (SIGKILL)" in str(exhausted({DELIVERIES: 5, REASON: "signal 9 (SIGKILL)"}))
    assert str(exhausted({DELIVERIES: 5, REASON: "x" * 500})).endswith(f": {'x' * 400}...")


@pytest.mark.parametrize(
    ("headers", "marked"),
    [({}, False), ({REASON: "signal 9"}, False), ({DELIVERIES: 1}, True), ({REJECTED: "x"}, True)],
)
def test_a_message_without_a_mark_is_not_looked_at(headers: dict[str, object], marked: bool) -> None:
    assert needs_look(headers) is marked
