"""Stamps from several sources, merged."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.app.canvas.stamps import merged


@pytest.mark.parametrize(
    ("first", "second", "held", "appended"),
    [
        ("a", "b", "a", ["a", "b"]),
        (1, 2.5, 1, [1, 2.5]),
        ("a", ["b", "c"], "a", ["a", "b", "c"]),
        (["a"], "b", ["a"], ["a", "b"]),
        (["a"], ["b"], ["a", "b"], ["a", "b"]),
        (("a",), "b", ("a",), ["a", "b"]),
        (None, "b", None, ["b"]),
        ({"x": 1}, {"y": 2}, {"x": 1, "y": 2}, {"x": 1, "y": 2}),
    ],
)
@pytest.mark.row("CV17")
def test_two_values_of_one_stamp(first: Any, second: Any, held: Any, appended: Any) -> None:
    assert merged({"s": first}, {"s": second}, None, False) == {"s": held, "stamped_headers": ["s"]}
    assert merged({"s": first}, {"s": second}, None, True) == {"s": appended, "stamped_headers": ["s"]}


def test_which_headers_are_stamps() -> None:
    assert merged({}, None, None, False) == {"stamped_headers": []}
    found = {"public": 1, "private": 2, "stamped_headers": ["public"]}
    own = {"old": 3, "queue": "q", "stamped_headers": ["old"]}
    assert merged({"given": 0}, found, own, False) == {
        "given": 0, "public": 1, "private": 2, "old": 3, "stamped_headers": ["given", "public", "old"],
    }  # fmt: skip


def test_nobody_else_is_changed() -> None:
    values = ["a"]
    given = {"s": values, "stamped_headers": ["s"]}
    merged(given, {"s": ["b"], "t": 1}, {"u": 1, "stamped_headers": ["u"]}, True)
    assert given == {"s": ["a"], "stamped_headers": ["s"]} and values == ["a"]
