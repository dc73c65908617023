"""Install the one wheel of a folder with a given Python: tox has no shell to expand ``*.whl``.

Usage: ``python scripts/install_wheel.py PYTHON FOLDER``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(python: str, folder: str) -> int:
    """Install; the exit code is pip's."""
    (wheel,) = Path(folder).glob("*.whl")
    return subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
