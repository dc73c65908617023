"""The pidfile: one worker at a time, and a file left behind is no worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from turbo.cli.pidfile import Pidfile, PidfileTakenError
from turbo.exceptions import ImproperlyConfigured

HOLD = """
import sys
from turbo.cli.pidfile import Pidfile
with Pidfile(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker.pid"


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.row("CL7")
def test_a_second_worker_is_refused_and_the_error_names_the_first(path: Path) -> None:
    with holder(path) as process:
        with pytest.raises(PidfileTakenError, match=f"pid {process.pid}"), Pidfile(str(path)):
            pass
        process.communicate()
    assert not path.exists()


@pytest.mark.row("CL7")
def test_the_file_of_a_killed_worker_is_taken_over(path: Path) -> None:
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert path.read_text() == f"{process.pid}\n"
    with Pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_file_that_somebody_replaced_is_left_alone(path: Path) -> None:
    with Pidfile(str(path)):
        path.unlink()
        path.write_text("somebody else's\n")
    assert path.read_text() == "somebody else's\n"


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ImproperlyConfigured, match="pidfile .*missing.* cannot be written: No such file"),
        Pidfile(str(tmp_path / "missing" / "pid")),
    ):
        pass
