"""Outcome records that are well formed and make no sense cost their child alone; started tasks are counted by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import header_of, no_events
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.outcomes import Outcomes, TaskCounts
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header
from turbo.ring import frames


class Nobody:
    """Takes every call."""

    def __getattr__(self, name: str) -> object:
        return lambda *_args, **_options: None


class Condemned(Nobody):
    """Remembers which children were condemned."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def child_corrupt(self, child: ChildProcess, reason: str) -> None:
        self.reasons.append(reason)


_DONE = frames.pack_done(Verb.ACK, Ending.SUCCESS, 0, 0, 1000, 0, b"")


@pytest.mark.parametrize(
    "records",
    [
        [(frames.STARTED, 1, frames.STARTED_LATE)] * 2,
        [(frames.STARTED, 2, frames.STARTED_LATE)],
        [(frames.DONE, 1, _DONE)] * 2,
        [(frames.DONE, 1, b"")],
        [(99, 1, b"")],
        [(frames.STARTED, 1, b"\xff")],
        [(frames.EVENT, 1, b"{")],
        [(frames.EVENT, 1, b'{"uuid": "no type"}')],
    ],
    ids=[
        "started twice",
        "never given",
        "done twice",
        "empty",
        "unknown kind",
        "short",
        "event that is no JSON",
        "event of no type",
    ],
)
def test_the_child_is_condemned_and_nothing_is_raised(records: list[tuple[int, int, bytes]]) -> None:
    condemned = Condemned()
    settlement: Any = Nobody()
    settlement.events = no_events()
    outcomes = Outcomes(Nobody(), settlement, Nobody(), Nobody())  # type: ignore[arg-type]
    child = ChildProcess(1, 1, Nobody(), 0.0, condemned.child_corrupt)  # type: ignore[arg-type]
    child.state = ChildState.SERVING
    delivery = Delivery(1, "q", 1, b"", b"", b"")
    delivery.move(State.DISPATCHED)
    child.assigned[1] = delivery
    outcomes.take(child, records)
    assert len(condemned.reasons) == 1


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
