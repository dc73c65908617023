"""docs/canvas.md: its examples, run one after the other with a worker beside them."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import examples, run_program
from tests.harness.worker import WorkerProcess


def test_the_examples_run(tmp_path: Path, vhost: str, redis_db: str) -> None:
    app, *calls = examples("canvas.md", broker=vhost, results=redis_db)
    assert len(calls) == 9
    (tmp_path / "shop_tasks.py").write_text(app)
    with WorkerProcess("-A", "shop_tasks", "-c", "2", "-l", "info", directory=tmp_path) as worker:
        worker.wait_for_line(r"ready\.$")
        lines = run_program(tmp_path, "shop_tasks", calls).splitlines()
        assert lines == [
            "16 8", "[0, 2, 4, 6, 8] 5", "20 [0, 2, 4, 6, 8]", "134", "ChordError", "[3, 7]",
            str(list(range(0, 20, 2))), "5", "6", "[13, 23]",
        ]  # fmt: skip
        worker.wait_for_line("failed: ")
