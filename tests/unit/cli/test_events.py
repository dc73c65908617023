"""The lines of ``turbo events`` are those of ``celery events --dump``."""

from __future__ import annotations

import io
from typing import Any

import pytest
from celery.events.dumper import Dumper

from turbo.cli.events import Dump

EVENTS: list[dict[str, Any]] = [
    {"type": "worker-heartbeat", "hostname": "w@h", "timestamp": 1.5, "pid": 7, "freq": 2.0, "clock": 1},
    {"type": "worker-offline", "hostname": "w@h", "timestamp": 1.5},
    {
        "type": "task-received", "hostname": "w@h", "timestamp": 2.0, "uuid": "an-id", "name": "proj.add",
        "args": "(1, 2)", "kwargs": "{}", "retries": 0, "queue": "celery",
    },
    {"type": "task-started", "hostname": "w@h", "timestamp": 2.1, "uuid": "an-id", "pid": 7},
    {"type": "task-started", "hostname": "w@h", "timestamp": 2.1, "uuid": "another", "pid": 7},
    {"type": "custom-kind", "hostname": "w@h", "timestamp": 3.0, "progress": 50},
]  # fmt: skip


@pytest.mark.row("EV19")
def test_lines_are_celerys() -> None:
    out = io.StringIO()
    theirs, ours = Dumper(out), Dump()
    for event in EVENTS:
        theirs.on_event(dict(event))
    assert [ours.line(event) for event in EVENTS] == out.getvalue().splitlines()
