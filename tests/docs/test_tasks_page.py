"""docs/tasks.md: its tasks in a real worker, and its calls in a program beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.worker import WorkerProcess

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.row("TD21", "CV20", "TD10")
def test_the_examples_run(tmp_path: Path, vhost: str, redis_db: str) -> None:
    examples = EXAMPLE.findall((ROOT / "docs" / "tasks.md").read_text())
    defined, calls = examples[::2], examples[1::2]
    assert len(calls) == 3
    assert all("assert" in call for call in calls)
    app = "\n\n".join(defined).replace("amqp://localhost//", vhost).replace("redis://localhost/0", redis_db)
    (tmp_path / "bank_tasks.py").write_text(app)
    (tmp_path / "program.py").write_text("from bank_tasks import *\n" + "\n".join(calls))
    with WorkerProcess("-A", "bank_tasks", "-c", "2", "-l", "info", directory=tmp_path) as worker:
        worker.wait_for_line(r"ready\.$")
        done = subprocess.run(
            [sys.executable, "-W", "error", "program.py"],
            cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
            env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
