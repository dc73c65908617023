"""docs/calling.md: its examples, run one after the other with a worker beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.harness.worker import WorkerProcess

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_examples_run(tmp_path: Path, vhost: str, redis_db: str) -> None:
    app, *calls = EXAMPLE.findall((ROOT / "docs" / "calling.md").read_text())
    assert len(calls) == 7
    here = {"amqp://localhost//": vhost, "redis://localhost/0": redis_db}
    for shown, real in here.items():
        app = app.replace(shown, real)
        calls = [call.replace(shown, real) for call in calls]
    (tmp_path / "shop_tasks.py").write_text(app)
    (tmp_path / "program.py").write_text("from shop_tasks import *\n" + "\n".join(calls))
    with WorkerProcess("-A", "shop_tasks", "-c", "2", "-l", "info", directory=tmp_path) as worker:
        worker.wait_for_line(r"ready\.$")
        done = subprocess.run(
            [sys.executable, "-W", "error", "program.py"],
            cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
            env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["5"] * 4
        worker.wait_for_line("added")
        worker.wait_for_line("hello")
