"""Stamps: the same canvas, stamped by the same visitor, is sent with the same stamps by both APIs.

Values are no lists here: Celery's parts share theirs, so that one part's visitor changes the stamps of another part.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import celery
import celery.canvas
import pytest

import turbo
import turbo.canvas
from tests.integration.canvas.both_sides import Side, comparable

pytestmark = pytest.mark.row("CV17")


def visitor(base: Any) -> Any:
    """A visitor that stamps whatever it meets with its kind."""

    class Everything(base):  # type: ignore[misc]
        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return {"on_signature": sig["task"], "shared": "signature", "stamped_headers": ["on_signature", "shared"]}

        def on_chain_start(self, chain: Any, **headers: Any) -> Any:
            return {"on_chain": len(chain.tasks)}

        def on_group_start(self, group: Any, **headers: Any) -> Any:
            return {"on_group": True, "shared": "group"}

        def on_chord_body(self, sig: Any, **headers: Any) -> Any:
            return {"on_body": 1}

        def on_callback(self, callback: Any, **headers: Any) -> Any:
            return {"on_callback": "link"}

        def on_errback(self, errback: Any, **headers: Any) -> Any:
            return {"on_errback": "link_error", "private": 1, "stamped_headers": ["on_errback"]}

    return Everything()


def _linked(side: Side) -> Any:
    sig = side.add.s(1, 2)
    sig.link(side.note.s())
    sig.link_error(side.note.si("x"))
    return sig


CANVASES: dict[str, Callable[[Side], Any]] = {
    "call": lambda s: s.add.s(1, 2),
    "links": _linked,
    "chain": lambda s: s.chain(s.add.s(1, 2), _linked(s), s.add.s(4)),
    "group": lambda s: s.group(s.add.s(1, 2), s.group(s.add.s(3, 4)), s.add.s(1) | s.add.s(2)),
    "chord": lambda s: s.chord([s.add.s(1, 2), s.add.s(3, 4)], s.total.s()),
    "whole": lambda s: s.add.s(1) | s.group(s.add.s(1), _linked(s)) | s.total.s() | s.add.s(2),
}
STAMPS: dict[str, Callable[[Any, Any], Any]] = {
    "headers": lambda sig, base: sig.stamp(stamp="value", number=1),
    "visitor": lambda sig, base: sig.stamp(visitor(base)),
    "both": lambda sig, base: sig.stamp(visitor(base), shared="given"),
    "twice": lambda sig, base: (sig.stamp(stamp="first"), sig.stamp(stamp="second")),
    "appended": lambda sig, base: (sig.stamp(stamp="first"), sig.stamp(visitor(base), append_stamps=True, stamp="two")),
}


@pytest.fixture(scope="module")
def sides(redis_server: Any) -> Any:
    redis_server.ensure_running()
    return [Side(module, redis_server.new_database()) for module in (celery, turbo)]


def _stamps(value: Any) -> Any:
    """What is stamped on each call of a canvas, by its place; names in order."""
    if isinstance(value, list):
        return [_stamps(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "stamped_headers" in value:
        value = {**value, "stamped_headers": sorted(value["stamped_headers"] or ())}
    return {name: _stamps(each) for name, each in value.items()}


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("how", STAMPS)
def test_both_stamp_the_same(canvas: str, how: str, sides: list[Side]) -> None:
    made = []
    for side, base in zip(sides, (celery.canvas.StampingVisitor, turbo.canvas.StampingVisitor), strict=True):
        sig = CANVASES[canvas](side)
        STAMPS[how](sig, base)
        made.append(_stamps(comparable(json.loads(json.dumps(sig)))))
    assert made[1] == made[0]


def test_they_are_sent(sides: list[Side]) -> None:
    side = sides[1]
    with side.published() as messages:
        (side.add.s(1, 2) | side.add.s(3)).stamp(stamp="value").apply_async()
    (message,) = messages
    assert (message["headers"]["stamped_headers"], message["headers"]["stamps"]) == (["stamp"], {"stamp": "value"})
    assert message["body"][2]["chain"][0]["options"]["stamp"] == "value"
