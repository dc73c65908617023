"""The order of bootsteps."""

from __future__ import annotations

import pytest

from turbo.policy.step_order import in_order


@pytest.mark.parametrize(
    ("required", "ordered"),
    [
        ({"a": set(), "b": set()}, "ab"),
        ({"a": {"b"}, "b": {"timer"}}, "ba"),
        ({"a": {"c"}, "b": {"a"}, "c": set()}, "cab"),
        ({"a": {"pool"}, "b": {"a"}, "c": set()}, "c"),
        ({"a": {"b"}, "b": {"a"}}, ""),
        ({"a": {"a"}}, ""),
    ],
    ids=["free", "one after the other", "a chain", "what is not there", "a circle", "itself"],
)
def test_a_step_runs_after_those_that_it_requires(required: dict[str, set[str]], ordered: str) -> None:
    assert in_order(sorted(required), str, required.__getitem__, {"timer"}) == [*ordered]
