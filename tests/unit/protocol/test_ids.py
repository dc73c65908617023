"""Ids of whatever kind a program gives, as plain text."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from turbo.protocol.ids import text_id, text_ids

SOME = UUID("6a1d7c4e-2f0b-4c57-9a4e-0d6a3b1e5f70")


class Named(str):
    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("given", "text"), [("a", "a"), (Named("a"), "a"), ("ü".encode(), "ü"), (SOME, str(SOME)), (7, "7")]
)
def test_an_id_becomes_plain_text(given: Any, text: str) -> None:
    assert text_id(given) == text
    assert type(text_id(given)) is str


def test_several_ids_become_a_list() -> None:
    assert text_ids([SOME, b"b"]) == text_ids((SOME, b"b")) == [str(SOME), "b"]
    assert text_ids({7}) == ["7"]
    assert text_ids("one") == "one"
