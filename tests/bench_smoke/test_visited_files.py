"""The count of files on a task's way through a child."""

from __future__ import annotations

import subprocess
import sys

from bench.contenders import ROOT


def test_the_files_of_a_no_op_task_are_named() -> None:
    command = [sys.executable, "-m", "scripts.visited_files"]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    assert {"ring/task_ring.py", "protocol/message.py"} <= set(run.stdout.splitlines())
