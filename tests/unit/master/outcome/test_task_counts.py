"""Tasks counted by their names, whatever their headers look like."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import header_of
from turbo.master.outcome.task_counts import TaskCounts
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header

NAMES = ["t", "proj.tasks.add", "näme", "x" * 255, "x" * 256, "x" * 300, "y" * 512, ""]


def _other(identifier: str, name: str) -> bytes:
    """Headers that do not begin as Celery's: by another content type."""
    headers, _body, properties = build(identifier, name)
    properties.headers, properties.content_type, properties.content_encoding = headers, "text/plain", "utf-8"
    return encode_header(properties, 3)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans())))
def test_each_name_has_its_count(sent: list[tuple[str, bool]]) -> None:
    task_counts = TaskCounts()
    for number, (name, plain) in enumerate(sent):
        task_counts.count((header_of if plain else _other)(f"id-{number}", name))
    assert task_counts.by_name() == dict(Counter(name or "?" for name, _ in sent))


@given(st.lists(st.binary(max_size=120), max_size=20))
def test_nonsense_is_counted_somewhere(headers: list[bytes]) -> None:
    task_counts = TaskCounts()
    for header in headers:
        task_counts.count(header)
        task_counts.count(header)
    assert sum(task_counts.by_name().values()) == 2 * len(headers)


def test_names_are_bounded() -> None:
    task_counts = TaskCounts()
    for number in range(10_050):
        task_counts.count(header_of("i", f"name-{number}"))
    assert len(task_counts.by_name()) == 10_000
    task_counts.count(header_of("i", "name-3"))
    assert task_counts.by_name()["name-3"] == 2
