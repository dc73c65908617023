"""Run the tests on the compiled turbo that is installed, not on the source beside them.

Usage: ``python scripts/compiled_suite.py FOLDER [ARGUMENTS OF PYTEST]``. FOLDER is made anew: a copy of this checkout
whose ``turbo`` is a link to the installed package. Tests put the folder that they are in on PYTHONPATH, and so run the
installed package in every process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from turbo.control.report import build

_ROOT = Path(__file__).resolve().parents[1]
#: What no test reads.
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


def main(folder: str, *arguments: str) -> int:
    """Run; the exit code is pytest's, or 1 if the installed turbo is another."""
    installed = Path(sys.modules["turbo"].__path__[0]).resolve()
    if installed.is_relative_to(_ROOT / "turbo") or build() != "compiled":
        sys.stderr.write(f"{installed} is not compiled; install one with TURBO_COMPILE=1 pip install .\n")
        return 1
    place = Path(folder)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(_ROOT, place, ignore=lambda at, names: {*_LEFT_OUT(at, names), *_package(at)})
    (place / "turbo").symlink_to(installed)
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=place, check=False).returncode


def _package(at: str) -> set[str]:
    return {"turbo"} if Path(at) == _ROOT else set()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
