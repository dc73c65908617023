"""Counts the files of turbo whose code runs for one no-op task in a child, from its record to the report of its end.

A reader who follows a task through a child opens these. The child's loop and the master are not counted.

Usage: ``python -m scripts.visited_files``.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.apps import trace_turbo
from turbo.protocol.properties import Properties, encode_header

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = Path(__file__).resolve().parent.parent / "turbo"
_ID = "6a1d7c4e-2f0b-4c57-9a4e-0d6a3b1e5f70"
_BODY = '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
#: Batches that run before: what happens at a first task alone is no part of the way.
_WARM_UP = 2


def in_a_child() -> list[str]:
    """Run no-op tasks by a child's executor over rings in this process; return the files, relative to the package."""
    visited: set[str] = set()
    batches = 0
    run = trace_turbo._run  # noqa: SLF001 - the bench of the same repository

    def note(frame: FrameType, event: str, _arg: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            visited.add(path.relative_to(PACKAGE).as_posix())

    def watched(*ends: Any) -> float:
        nonlocal batches
        batches += 1
        if batches <= _WARM_UP:
            return run(*ends)
        sys.setprofile(note)
        try:
            return run(*ends)
        finally:
            sys.setprofile(None)

    trace_turbo._run = watched  # noqa: SLF001
    sys.stdin = io.StringIO(json.dumps({"header": _header(), "body": _BODY, "id": _ID, "task": "noop", "count": 200}))
    trace_turbo.main()
    return sorted(visited)


def _header() -> str:
    headers = {"lang": "py", "task": "noop", "id": _ID, "root_id": _ID, "parent_id": None, "retries": 0, "eta": None,
               "expires": None, "group": None, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}",
               "origin": "gen1@here", "ignore_result": True}  # fmt: skip
    properties = Properties(content_type="application/json", content_encoding="utf-8", correlation_id=_ID,
                            reply_to=_ID, delivery_mode=2, priority=0, headers=headers)  # fmt: skip
    return encode_header(properties, len(_BODY)).hex()


if __name__ == "__main__":
    files = in_a_child()
    print(f"{len(files)} files in a child:", *files, sep="\n")
