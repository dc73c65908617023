"""Runs a worker with a no-op task and records which files its master visits, for ``scripts.visited_files``.

Usage: ``python -m scripts.visited_worker URL DESCRIPTOR``. It writes a byte to the descriptor for each acknowledgement
and, when it ends, the files that were visited for every one of the last messages, as JSON on standard output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbo import Turbo
from turbo.amqp.consume.ack_ledger import settle_frames
from turbo.cli.main import main

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = Path(__file__).resolve().parent.parent / "turbo"
#: Number of messages whose files are compared. A file that runs for each of them runs for the message, not for a timer.
LAST = 100

app = Turbo("visited", broker=os.environ.get("VISITED_BROKER"), worker_enable_remote_control=False)


@app.task(name="noop", ignore_result=True, acks_late=True, shared=False)
def noop() -> None:
    """Nothing."""


class Watch:
    """The files that run between one acknowledgement and the next."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._prefix = f"{PACKAGE}/"
        self._end = settle_frames.__code__
        self._files: set[str] = set()
        self.messages: list[set[str]] = []

    def note(self, frame: FrameType, event: str, _arg: Any) -> None:
        """Take note of a call; ``sys.setprofile`` calls this."""
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(self._prefix):
            self._files.add(path.removeprefix(self._prefix))
        elif event == "return" and frame.f_code is self._end:
            self.messages.append(self._files)
            self._files = set()
            os.write(self._descriptor, b".")


if __name__ == "__main__":
    os.environ["VISITED_BROKER"] = sys.argv[1]
    watch = Watch(int(sys.argv[2]))
    os.register_at_fork(after_in_child=lambda: sys.setprofile(None))
    sys.argv[1:] = ["-A", "scripts.visited_worker", "worker", "-c", "1", "--loglevel", "WARNING"]
    sys.setprofile(watch.note)
    try:
        main()
    finally:
        sys.setprofile(None)
        print(json.dumps(sorted(set.intersection(*watch.messages[-LAST:]))))
