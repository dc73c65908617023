"""What belongs to a task, found by its message's header: whatever form that has, and without decoding it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import header_of
from turbo.protocol import task_lookup
from turbo.protocol.properties import Properties, encode_header
from turbo.protocol.task_lookup import TaskLookup

NAMES = st.one_of(st.text(min_size=1, max_size=20), st.text(min_size=250, max_size=300))


@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True), other=NAMES)
def test_it_finds_what_was_put_under_the_name(names: list[str], other: str) -> None:
    lookup: TaskLookup[int] = TaskLookup()
    for number, name in enumerate(names):
        lookup.put(name, number)
    for _ in range(2):  # the second look-up is by bytes that are remembered
        assert [lookup.find(header_of("id", name)) for name in names] == list(range(len(names)))
        assert lookup.find(header_of("id", other)) == (names.index(other) if other in names else None)
    assert [lookup.named(name) for name in names] == list(range(len(names)))


def test_a_change_is_seen_at_once() -> None:
    lookup: TaskLookup[str] = TaskLookup()
    header = header_of("id", "a")
    assert not lookup
    assert lookup.find(header) is None
    lookup.put("a", "new")
    assert lookup
    assert lookup.find(header) == "new"
    lookup.put("a", None)
    lookup.put("a", None)
    assert lookup.find(header) is None
    assert not lookup


@pytest.mark.parametrize(
    ("headers", "found"),
    [({"id": "1", "task": "a"}, 1), ({"task": "b"}, None), ({"id": "1"}, None), ({"task": 3}, None), (None, None)],
)
def test_headers_of_other_producers(headers: dict[str, object] | None, found: int | None) -> None:
    lookup: TaskLookup[int] = TaskLookup()
    lookup.put("a", 1)
    assert lookup.find(encode_header(Properties(headers=headers), 2)) == found
    assert lookup.find(b"short") is None


def test_names_from_the_wire_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_lookup, "_MOST", 3)
    lookup: TaskLookup[int] = TaskLookup()
    lookup.put("t9", 9)
    found = [lookup.find(header_of("id", f"t{number}")) for number in range(10)]
    assert found == [None] * 9 + [9]
    assert len(lookup._pieces) == 3
