"""docs/calling.md: its examples, run one after the other with a worker beside them."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import examples, run_program
from tests.harness.worker import WorkerProcess


def test_the_examples_run(tmp_path: Path, vhost: str, redis_db: str) -> None:
    app, *calls = examples("calling.md", broker=vhost, results=redis_db)
    assert len(calls) == 7
    (tmp_path / "shop_tasks.py").write_text(app)
    with WorkerProcess("-A", "shop_tasks", "-c", "2", "-l", "info", directory=tmp_path) as worker:
        worker.wait_for_line(r"ready\.$")
        assert run_program(tmp_path, "shop_tasks", calls).split() == ["5"] * 4
        worker.wait_for_line("added")
        worker.wait_for_line("hello")
