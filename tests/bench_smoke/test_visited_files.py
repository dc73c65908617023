"""The count of files on a task's way through the master and through a child."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.contenders import ROOT
from turbo.control.report import build

pytestmark = pytest.mark.skipif(build() == "compiled", reason="calls of compiled functions cannot be traced")

#: Files of any folder in a child, and of the folder ``master`` in the master.
MOST_IN_A_CHILD = 15
MOST_OF_THE_MASTER = 9


@pytest.fixture(scope="module")
def visited() -> dict[str, list[str]]:
    """The files by place."""
    command = [sys.executable, "-m", "scripts.visited_files"]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=170)
    found: dict[str, list[str]] = {}
    for line in run.stdout.splitlines():
        if " files in " in line:
            files = found[line.partition(" files in ")[2].partition(",")[0]] = []
        elif line.endswith(".py"):
            files.append(line)
    return found


def test_the_files_of_a_no_op_task_are_named(visited: dict[str, list[str]]) -> None:
    assert {"ring/task_ring.py", "protocol/header_cache.py"} <= set(visited["a child"])
    assert {"amqp/frame_splitter.py", "master/outcome/settlement.py"} <= set(visited["the master"])


def test_a_reader_follows_a_no_op_task_through_few_files(visited: dict[str, list[str]]) -> None:
    assert len(visited["a child"]) <= MOST_IN_A_CHILD
    assert sum(file.startswith("master/") for file in visited["the master"]) <= MOST_OF_THE_MASTER
