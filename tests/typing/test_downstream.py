"""What type checkers say of programs that use turbo: parameters and results keep their types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLACE = Path(__file__).parent / "downstream"
ROOT = Path(__file__).parent.parent.parent


def expected() -> set[tuple[str, int]]:
    """Files and lines that must be errors."""
    return {
        (path.name, number)
        for path in sorted(PLACE.glob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith("# error")
    }


def test_there_is_something_to_find() -> None:
    assert len(expected()) >= 10


@pytest.mark.timeout(300)
def test_mypy(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--output", "json",
            "--cache-dir", str(tmp_path), "--config-file", "", str(PLACE),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    found = [json.loads(line) for line in run.stdout.splitlines()]
    # What turbo itself imports is no concern of a program's: checkers are silent about installed packages.
    ours = [each for each in found if (ROOT / each["file"]).parent == PLACE]
    errors = {(Path(each["file"]).name, each["line"]) for each in ours if each["severity"] == "error"}
    assert errors == expected(), run.stdout + run.stderr


@pytest.mark.timeout(300)
def test_pyright() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(PLACE)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    found = json.loads(run.stdout)["generalDiagnostics"]
    errors = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found if each["severity"] == "error"
    }
    assert errors == expected(), run.stdout + run.stderr
