"""The matching rules, topics against a regular expression that says the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.embedded_broker.exchanges import headers_match, topic_matches

WORDS = st.lists(st.sampled_from(["a", "b", ""]), max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#", ""]), max_size=5)


@given(PATTERNS, WORDS)
def test_topics_match_as_the_equivalent_expression(pattern: list[str], words: list[str]) -> None:
    parts = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    expression = "".join(parts.get(part, re.escape(part) + r"\.") for part in pattern)
    subject = "".join(f"{word}." for word in words)
    assert topic_matches(pattern, words) == bool(re.fullmatch(expression, subject))


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {"a": 1}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2, "x-match": "any"}, {"a": 1}, True),
        ({"a": None}, {"a": 5}, True),
        ({"x-a": 1}, {}, True),
        ({"x-a": 1, "x-match": "all-with-x"}, {}, False),
        ({"x-a": 1, "x-match": "any-with-x"}, {"x-a": 1}, True),
    ],
)
def test_headers(arguments: dict[str, object], headers: dict[str, object], expected: bool) -> None:
    assert headers_match(arguments, headers) is expected
