"""Coverage of the unit tests is added up, and fails the run where it is too little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
UNIT = "tests/unit/policy/test_restarts.py"


@pytest.mark.timeout(600)  # it compiles and measures the whole package
def test_a_run_with_too_little_coverage_fails_and_says_so() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--coverage", UNIT]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV"))}
    done = subprocess.run(
        command, cwd=ROOT, env=inherited, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "% are covered by unit tests, 95 % must be" in done.stdout
    assert " passed in " in done.stdout.splitlines()[-1]
    # what no test ran is counted as well
    assert "turbo/protocol/peek.py" in done.stdout
