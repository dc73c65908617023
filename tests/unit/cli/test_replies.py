"""Replies for people: Celery's headlines, and tables of tasks and queues."""

from __future__ import annotations

from typing import Any

import click

from turbo.cli import replies


def body(command: str, answer: Any) -> list[str]:
    return click.unstyle(replies.body(command, answer)).splitlines()


def test_the_headline_is_celerys() -> None:
    assert click.unstyle(replies.headline("w1@here", {"ok": "pong"}, quiet=False)) == "->  w1@here: OK"
    assert click.unstyle(replies.headline("w1@here", {"error": "no"}, quiet=False)) == "->  w1@here: ERROR"
    assert click.unstyle(replies.headline("w1@here", [], quiet=True)) == " w1@here: OK"


def test_tasks_are_a_table() -> None:
    row = {"id": "an-id", "name": "proj.add", "args": [1, 2], "kwargs": {}, "time_start": 0.0, "worker_pid": 7}
    assert body("active", [row]) == [
        "    id     task      args    kwargs  started (UTC)        pid",
        "    an-id  proj.add  [1, 2]  {}      1970-01-01 00:00:00  7",
    ]
    assert body("scheduled", [{"eta": "soon", "priority": 6, "request": row}])[1].split() == [
        "soon", "6", "an-id", "proj.add", "[1,", "2]", "{}",
    ]  # fmt: skip
    assert body("query_task", {"an-id": ["active", row]})[1].split() == ["an-id", "active", "proj.add"]


def test_long_cells_are_cut() -> None:
    (_, line) = body("reserved", [{"id": "i", "name": "t", "args": "x" * 500, "kwargs": "{}"}])
    assert "…" in line and len(line) < 100


def test_other_answers() -> None:
    assert body("active", []) == ["    - empty -"]
    assert body("registered", ["proj.add", "proj.sub"]) == ["    * proj.add", "    * proj.sub"]
    assert body("ping", {"ok": "pong"}) == ["        pong"]
    assert body("clock", {"clock": 3}) == ["    {", '        "clock": 3', "    }"]
    assert body("rate_limit", {"error": "unknown task"}) == ["        unknown task"]
