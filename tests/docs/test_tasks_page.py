"""docs/tasks.md: its tasks in a real worker, and its calls in a program beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import examples, run_program
from tests.harness.worker import WorkerProcess


@pytest.mark.row("TD21", "CV20", "TD10")
def test_the_examples_run(tmp_path: Path, vhost: str, redis_db: str) -> None:
    shown = examples("tasks.md", broker=vhost, results=redis_db)
    defined, calls = shown[::2], shown[1::2]
    assert len(calls) == 4
    assert all("assert" in call for call in calls)
    (tmp_path / "bank_tasks.py").write_text("\n\n".join(defined))
    with WorkerProcess("-A", "bank_tasks", "-c", "2", "-l", "info", directory=tmp_path) as worker:
        worker.wait_for_line(r"ready\.$")
        run_program(tmp_path, "bank_tasks", calls)
