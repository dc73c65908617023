"""What other workers answer at a start: ids of every version, and what cannot be trusted."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.protocol.hello import RevokedIds, answer_parts, revoked_ids
from turbo.protocol.pidbox import PidboxError


@pytest.mark.parametrize(
    ("value", "ids", "skipped"),
    [
        (None, [], 0),
        ([], [], 0),
        (["b", "a"], ["b", "a"], 0),
        ({"b": [1.5, "b"], "a": [0.5, "a"]}, ["b", "a"], 0),
        (["a", 5, None, "", "x" * 256, "é" * 128, "\ud800", "x" * 255], ["a", "\ud800", "x" * 255], 5),
    ],
)
def test_ids_in_the_senders_order(value: Any, ids: list[str], skipped: int) -> None:
    assert revoked_ids(value) == RevokedIds(ids, skipped)
    assert answer_parts({"revoked": value, "clock": 7}) == (RevokedIds(ids, skipped), 7)


@pytest.mark.parametrize("answer", [["a"], "x", 3, {"error": "KeyError('hello')"}, {"revoked": 3}, {"revoked": "abc"}])
def test_what_is_no_answer(answer: Any) -> None:
    with pytest.raises(PidboxError):
        answer_parts(answer)


def test_an_answer_may_lack_everything() -> None:
    assert answer_parts({"other": 1}) == (RevokedIds([], 0), None)
