"""Commands say in one line what is wrong with the place in which they run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TURBO = (sys.executable, "-m", "turbo")


def test_an_output_that_is_full_is_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*TURBO, "worker", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (
        1,
        "turbo: the output cannot be written: [Errno 28] No space left on device\n",
    )


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    # The shell deletes its own working directory and then becomes the command.
    ended = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *TURBO, "-A", "no_such_app", "status"],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1, ended.stderr
    assert "which no longer exists: change to another one" in ended.stderr
    assert "Traceback" not in ended.stderr
