"""What rows about tasks are made of: which delivery is shown where, and what of one."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.control import view
from turbo.control.view import View
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.properties import Properties, encode_header


def delivery(state: State = State.READY, due: float = 0.0, body: bytes = b"", **properties: Any) -> Any:
    held = Properties(content_type="application/json", content_encoding="utf-8", **properties)
    return SimpleNamespace(state=state, due=due, body=body, header=encode_header(held, len(body)))


def view_of(*deliveries: Any) -> View:
    return View(deliveries, SimpleNamespace(children={}), None, "here")  # type: ignore[arg-type]


def test_a_copy_held_until_the_first_has_run_waits_for_no_time() -> None:
    ready, sent, copy = delivery(State.READY), delivery(State.DISPATCHED), delivery(State.HELD)
    later, runs = delivery(State.HELD, 7.5), delivery(State.STARTED)
    shown = view_of(ready, sent, copy, later, runs)
    assert shown.reserved() == [ready, sent, copy]
    assert shown.scheduled() == [later]


def test_a_start_is_known_of_the_task_that_the_page_names() -> None:
    ago = time.monotonic_ns() - 3_000_000_000
    child: Any = SimpleNamespace(
        link=SimpleNamespace(page=SimpleNamespace(running=lambda: SimpleNamespace(seq=4, started_ns=ago)))
    )
    started = view._started(child, 4)
    assert started is not None and 3 <= time.time() - started < 60
    assert view._started(child, 5) is None
    child.link.page.running = lambda: None
    assert view._started(child, 4) is None


@pytest.mark.parametrize(
    ("body", "properties", "arguments"),
    [
        ([[1], {"a": 2}, {}], {}, ([1], {"a": 2})),
        ({"args": [1], "kwargs": {"a": 2}}, {}, ([1], {"a": 2})),
        ({"args": None}, {}, ([], {})),
        ([[1]], {}, None),
        ("text", {}, None),
        ([[1], {}, {}], {"headers": {"compression": "application/x-gzip"}}, None),
        ([["x" * 20_000], {}, {}], {}, None),
    ],
)
def test_arguments_of_small_json_bodies_alone_are_read(body: Any, properties: Any, arguments: Any) -> None:
    assert view_of()._arguments(delivery(body=json.dumps(body).encode(), **properties)) == arguments


def test_others_and_broken_ones_are_not_decoded() -> None:
    pickled = delivery(body=b"[[1], {}, {}]")
    pickled.header = encode_header(Properties(content_type="application/x-python-serialize"), 13)
    broken = delivery(body=b"[[1], ")
    assert [view_of()._arguments(each) for each in (pickled, broken)] == [None, None]


def test_many_rows_are_made_in_slices_between_which_the_loop_works() -> None:
    async def turns() -> int:
        count = 0

        async def tick() -> None:
            nonlocal count
            while True:
                count += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(tick())
        rows = await view._sliced(range(1000), lambda number: {"n": number} if number % 2 else None)
        assert [row["n"] for row in rows] == list(range(1, 1000, 2))
        beside.cancel()
        return count

    assert asyncio.run(turns()) == 1000 // view._SLICE
