"""Counts the files of turbo whose code runs for one no-op task: in a child, and in the master.

These are the files that a reader of the task's path opens. In a child the path goes from the task's record to its
DONE record, without the child's loop; in the master it goes from the delivery to the acknowledgement.

Usage: ``python -m scripts.visited_files``.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench.apps import trace_turbo
from turbo import Turbo
from turbo.embedded_broker.launch import run_in_subprocess
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "turbo"
_ID = "6a1d7c4e-2f0b-4c57-9a4e-0d6a3b1e5f70"
_BODY = '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
#: Batches that run before: what happens at a first task alone is no part of the way.
_WARM_UP = 2
#: Messages for the master, and seconds to wait for one.
_MESSAGES = 150
_PATIENCE_S = 30.0


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


def in_the_master() -> list[str]:
    """Send no-op messages to a worker, each when the one before is acknowledged; return the files of its master."""
    acked, told = os.pipe()
    with run_in_subprocess() as broker, Turbo("sender", broker=broker.url, set_as_current=False) as app:
        command = [sys.executable, "-m", "scripts.visited_worker", broker.url, str(told)]
        worker = subprocess.Popen(command, cwd=ROOT, pass_fds=[told], stdout=subprocess.PIPE, text=True)
        os.close(told)
        try:
            for _ in range(_MESSAGES):
                app.send_task("noop", ignore_result=True)
                if not select.select([acked], [], [], _PATIENCE_S)[0] or not os.read(acked, 1):
                    sys.exit("the worker does not acknowledge its messages")
            worker.send_signal(signal.SIGTERM)
            printed, _ = worker.communicate(timeout=_PATIENCE_S)
        finally:
            worker.kill()
            os.close(acked)
    files: list[str] = json.loads(printed.splitlines()[-1])
    return files


def _header() -> str:
    """A call of the task as turbo and Celery send it."""
    headers, _body, properties = build(_ID, "noop", origin="gen1@here", reply_to=str(uuid4()), ignore_result=True)
    properties.headers = headers
    properties.content_type, properties.content_encoding = "application/json", "utf-8"
    return encode_header(properties, len(_BODY)).hex()


if __name__ == "__main__":
    # The child's bench installs a publisher in this process, so it comes last.
    for place, folder, files in (("the master", "master/", in_the_master()), ("a child", "child/", in_a_child())):
        own = sum(file.startswith(folder) for file in files)
        print(f"{len(files)} files in {place}, {own} of them in {folder}:", *files, sep="\n")
