"""What is left of a killed master is found, and time is counted against it only where it could have gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness import oracle, processes
from tests.harness.oracle import Leftovers
from tests.harness.processes import Stopwatch


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    process = processes.spawn(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_an_orphan_that_stays_is_found(
    orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(oracle, "ORPHANS", 0.05)
    # All seconds count: on a machine that is never idle none would.
    monkeypatch.setattr(processes, "_PRESSURE", tmp_path / "none")
    left = Leftovers()
    left.watch([psutil.Process(orphan.pid)])
    with pytest.raises(AssertionError, match="after their master"):
        left.check_orphans(Stopwatch())
    orphan.kill()
    orphan.wait()
    left.check_orphans(Stopwatch())


HOLD = """
import sys, time
files = [open(path, "w+b") for path in sys.argv[1:]]
print("open", flush=True)
time.sleep(60)
"""


def holder(*paths: Path) -> subprocess.Popen[bytes]:
    """A process that has these files open."""
    process = processes.spawn([sys.executable, "-c", HOLD, *paths], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


def test_shared_memory_of_the_watched_is_found_and_that_of_others_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "SHARED_MEMORY", tmp_path)
    mine, named, foreign = (tmp_path / name for name in ("psm_mine", "turbo-ring", "psm_foreign"))
    left = Leftovers()
    held, other = holder(mine, named), holder(foreign)
    try:
        left.watch([psutil.Process(held.pid)])
    finally:
        processes.end(held)
        processes.end(other)
    with pytest.raises(AssertionError, match="I6.*psm_mine.*turbo-ring"):
        left.check(timeout=1)
    mine.unlink()
    with pytest.raises(AssertionError, match="I6.*turbo-ring"):
        Leftovers(named=left.named).check(timeout=1)
    named.unlink()
    assert foreign.exists()
    left.check()


def test_waiting_for_a_processor_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "cpu"
    line = "some avg10=5.21 avg60=10.55 avg300=4.79 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    now = 100.0
    monkeypatch.setattr(processes, "_PRESSURE", account)
    monkeypatch.setattr("tests.harness.processes.time.monotonic", lambda: now)
    without = Stopwatch()
    now += 1
    assert without.seconds == 1, "a kernel that keeps no account"
    account.write_text(line.format(7_000_000))
    watch = Stopwatch()
    now += 3
    assert watch.seconds == 3
    account.write_text(line.format(8_500_000))
    assert watch.seconds == 1.5
