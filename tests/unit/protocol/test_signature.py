"""Signatures as they travel."""

from __future__ import annotations

import pytest

from tests.unit.protocol.goldens import GOLDENS, Golden
from turbo.exceptions import InvalidTaskError
from turbo.protocol.content import accept_set, decode
from turbo.protocol.signature import WireSignature, parse_signature, parse_signatures, to_wire

CANVAS = [
    one for one in GOLDENS if one.name.split("-")[0] in {"link", "links", "link_error", "chain", "chain_group", "chord"}
]


@pytest.mark.parametrize("golden", CANVAS, ids=repr)
def test_what_celery_sends_goes_there_and_back(golden: Golden) -> None:
    embed = decode(golden.body, "application/json", "utf-8", accept_set(None))[2]
    found = [*(embed["callbacks"] or ()), *(embed["errbacks"] or ()), *(embed["chain"] or ())]
    found += [embed["chord"]] if embed["chord"] else []
    for one in found:
        assert to_wire(parse_signature(one)) == one


def test_there_are_signatures_among_them() -> None:
    assert len(CANVAS) >= 12


def test_defaults() -> None:
    assert parse_signature({"task": "t"}) == WireSignature("t")
    found = parse_signature(
        {"task": "t", "args": None, "kwargs": None, "options": None, "immutable": 1, "chord_size": 3}
    )
    assert found == WireSignature("t", immutable=True, extra={"chord_size": 3})
    assert parse_signatures(None, "link") == []
    assert parse_signatures(({"task": "t"},), "link") == [WireSignature("t")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "link must be a mapping"),
        ([], "link must be a mapping"),
        ({}, "link does not name a task"),
        ({"task": 5}, "link does not name"),
        ({"task": ""}, "link does not name"),
        ({"task": "t", "args": "ab"}, "args of link"),
        ({"task": "t", "kwargs": []}, "kwargs of link"),
        ({"task": "t", "options": 1}, "options of link"),
        ({"task": "t", "subtask_type": 1}, "subtask_type of link"),
    ],
    ids=repr,
)
def test_what_is_none_says_where(value: object, text: str) -> None:
    with pytest.raises(InvalidTaskError, match=text):
        parse_signature(value, "link")


def test_a_list_says_which() -> None:
    with pytest.raises(InvalidTaskError, match=r"^link\[1\] "):
        parse_signatures([{"task": "t"}, 5], "link")
    with pytest.raises(InvalidTaskError, match="link must be a list"):
        parse_signatures({"task": "t"}, "link")
