"""Short text of values: bounded, balanced, harmless."""

from __future__ import annotations

import importlib
from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from turbo.protocol.saferepr import clean, saferepr, shown

Point = namedtuple("Point", "x y")


class Rows(list):  # type: ignore[type-arg]
    pass


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no\nrepr")


@pytest.mark.row("WP16")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((), "()"),
        ({}, "{}"),
        ([], "[]"),
        ((1,), "(1,)"),
        ((1, "a"), "(1, 'a')"),
        ({"a": [1.5, None, True]}, "{'a': [1.5, None, True]}"),
        ("it's", "'it\\'s'"),
        (b"abc", "b'abc'"),
        (b"\xff", "b'ff'"),
        (set(), "set()"),
        (frozenset(), "frozenset()"),
        ({1}, "{1}"),
        (frozenset([1]), "frozenset({1})"),
        (Point(1, 2), "(1, 2)"),
        (OrderedDict(a=1), "{'a': 1}"),
        (Rows([1]), "Rows([1])"),
        (Decimal("1.0"), "Decimal('1.0')"),
        (2**70, str(2**70)),
        (range(3), "range(0, 3)"),
        (1j, "1j"),
        ("漢字 😀", "'漢字 😀'"),
        (((),), "((),)"),
        ([[[[1]]]], "[[[[...]]]]"),
        ([[[{1: 2}]]], "[[[{...}]]]"),
        ({"a": {"b": {"c": {}}}}, "{'a': {'b': {'c': {...}}}}"),
        ((((1,),),), "(((1,),),)"),
        (((((1, 2),),),), "((((...),),),)"),
        (((((1,),),),), "((((...,),),),)"),
    ],
    ids=repr,
)
def test_looks_like_repr(value: object, text: str) -> None:
    assert saferepr(value) == text


def test_levels_can_be_chosen() -> None:
    assert saferepr([[[[[1]]]]], maxlevels=1) == "[[...]]"
    assert saferepr([[[[[1]]]]], maxlevels=0) == "[[[[[1]]]]]"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert saferepr(deep, maxlevels=0).count("[") <= 110


def test_a_value_within_itself() -> None:
    looped: list[Any] = [1]
    looped.append(looped)
    assert saferepr(looped).startswith("[1, <Recursion on list")
    shared = [1]
    assert saferepr([shared, shared]) == "[[1], [1]]"


def test_what_is_cut_still_closes() -> None:
    assert saferepr(list(range(1000)), 20) == "[0, 1, 2, 3, 4, 5, 6, ...]"
    assert saferepr({"a": "x" * 50}, 10) == "{'a': 'xxxx...'}"
    assert saferepr("y" * 5000) == f"'{'y' * 1024}...'"
    assert saferepr(b"z" * 5000).endswith("...'")
    assert len(saferepr([["w" * 900, "v" * 900]] * 10)) < 1200
    assert saferepr([[1]], 1) == "[...]"


def test_text_that_would_forge_a_log_line() -> None:
    text = saferepr(("a\n[ERROR] b\x1b[2J\x00\u2028\x9b\r\t", {"k\n": Broken()}))
    assert text.isprintable()
    assert "\\n[ERROR]" in text and "\\x1b" in text and "Unrepresentable Broken: RuntimeError" in text
    assert saferepr("\ud800") == "'\\ud800'"
    assert clean("a\nb" * 100, 4) == "a\\nba..."
    assert shown(Broken()) == "<Unrepresentable Broken: RuntimeError>"


VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.integers(0, 60), st.integers(0, 4))
def test_any_value_is_short_and_can_be_encoded(value: object, size: int, levels: int) -> None:
    text = saferepr(value, size, levels)
    text.encode()
    # an escape is up to six characters long, and every level adds a bracket or two
    assert len(text) <= 6 * size + 200


TAME = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(categories=["L", "Nd"])),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text("ab"), inner),
)


@given(TAME, st.integers(1, 4))
@settings(max_examples=examples(40))
@pytest.mark.row("WP16")
def test_what_is_not_cut_is_shown_as_celery_shows_it(value: object, levels: int) -> None:
    theirs = importlib.import_module("celery.utils.saferepr")
    assert saferepr(value, 10_000, levels) == theirs.saferepr(value, 10_000, levels)
