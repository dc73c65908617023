"""Random canvases, nested four deep: both APIs send the same of each, and give the same tree of results.

The same ones in each run. Of a few hundred there is one in which Celery does not settle the ids of a group deep inside,
so that its results are nobody's; none of these is. Callbacks are left out: Celery loses those of a chain in a chain.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import celery
import pytest

import turbo
from tests.harness.redis_server import RedisServer
from tests.integration.canvas.both_sides import Side, comparable

pytestmark = [
    pytest.mark.row("CV2", "CV4", "CV5", "CV6"),
    pytest.mark.filterwarnings("ignore::celery.exceptions.CPendingDeprecationWarning"),
]


@pytest.fixture(scope="module")
def sides(redis_server: RedisServer) -> Iterator[list[Side]]:
    redis_server.ensure_running()
    both = [Side(module, redis_server.new_database()) for module in (celery, turbo)]
    yield both
    for side in both:
        side.app.close()
    backend = both[0].app.backend
    backend.remove_pending_result = lambda _result: None
    backend.result_consumer.stop()
    backend.client.connection_pool.disconnect()


def build(side: Side, dice: random.Random, depth: int) -> Any:
    """Make a canvas; the same dice make the same one on both sides."""
    kinds = ("call", "fixed", "call") if depth == 0 else ("call", "chain", "group", "chord", "pipe", "pipe")
    match dice.choice(kinds):
        case "call":
            made = side.add.s(dice.randint(0, 9))
        case "fixed":
            made = side.add.si(dice.randint(0, 9))
        case "chain":
            made = side.chain(_several(side, dice, depth))
        case "group":
            made = side.group(_several(side, dice, depth))
        case "chord":
            made = side.chord(_several(side, dice, depth), build(side, dice, depth - 1))
        case _:
            made = build(side, dice, depth - 1)
            for each in _several(side, dice, depth):
                made = made | each
    return _changed(side, dice, made)


def _several(side: Side, dice: random.Random, depth: int) -> list[Any]:
    return [build(side, dice, depth - 1) for _ in range(dice.randint(1, 3))]


def _changed(side: Side, dice: random.Random, made: Any) -> Any:
    """Do to a canvas what programs do, to few of them."""
    change = dice.random()
    if change < 0.05:
        return made.set(priority=3)
    if change < 0.1:
        return made.clone()
    return made


def test_both_send_the_same(sides: list[Side]) -> None:
    for seed in range(300):
        sent = []
        for side in sides:
            dice = random.Random(seed)
            with side.published() as messages:
                result = build(side, dice, dice.randint(1, 4)).apply_async((5,) if seed % 3 == 0 else ())
            sent.append(comparable([messages, result.as_tuple()]))
        assert sent[1] == sent[0], f"canvas {seed}"
