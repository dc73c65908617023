"""Extracts the Python examples of a page under docs/ and runs them as a program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: str, **places: str) -> list[str]:
    """Return the page's examples with its server URLs replaced by those of the test, and with longer patience."""
    text = (ROOT / "docs" / page).read_text()
    here = {"amqp://localhost//": places.get("broker"), "redis://localhost/0": places.get("results")}
    for shown, real in here.items():
        text = text.replace(shown, real or shown)
    return _EXAMPLE.findall(text.replace("timeout=10)", "timeout=60)"))


def run_program(directory: Path, module: str, examples: list[str]) -> str:
    """Run the examples in order, with the names of ``module`` in this directory; return their output."""
    (directory / "program.py").write_text(f"from {module} import *\n" + "\n".join(examples))
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=directory, capture_output=True, text=True, timeout=150, check=False,
        env={"PYTHONPATH": f"{directory}:{ROOT}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
