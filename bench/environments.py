"""A virtual environment for each Python peer, built at first use under the user's cache directory.

Versions are pinned here; a changed pin builds the environment anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import BenchError

#: Peer -> what pip installs.
PINS: dict[str, tuple[str, ...]] = {
    "celery": ("celery[redis]==5.7.0",),
    "dramatiq": ("dramatiq[rabbitmq]==2.2.1",),
}


def cache() -> Path:
    """Where the environments are: ``$XDG_CACHE_HOME/turbo-bench``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turbo-bench"


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment, which is built if need be (a minute, and a package index)."""
    pins = PINS[peer]
    root = cache()
    root.mkdir(parents=True, exist_ok=True)
    place = root / f"{peer}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, complete = place / "bin" / "python", place / ".complete"
    with (root / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building the same one
        if complete.exists() and complete.read_text() == repr(pins) and python.exists():
            return python
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *pins])
        complete.write_text(repr(pins))
    return python


def turbo_python() -> Path:
    """The interpreter that runs turbo: ``$BENCH_TURBO_PYTHON``, or the one that runs the bench."""
    return Path(os.environ.get("BENCH_TURBO_PYTHON") or sys.executable)


def old_turbo_python() -> Path:
    """The interpreter of an environment with another turbo, ``$BENCH_OLD_TURBO_PYTHON``; BenchError without it."""
    python = os.environ.get("BENCH_OLD_TURBO_PYTHON")
    if not python:
        raise BenchError("turbo-old needs $BENCH_OLD_TURBO_PYTHON, an interpreter with another turbo installed")
    return Path(python)


def installed(peer: str) -> str:
    """The installed version of a peer's distribution in its environment."""
    return _version(python_of(peer), peer)


def check_same(peer: str) -> None:
    """See that the environment of turbo has the peer's distribution too, in the same version; else BenchError."""
    theirs, ours = installed(peer), _version(turbo_python(), peer)
    if ours != theirs:
        raise BenchError(f"turbo's environment has {peer} {ours}, the peer's has {theirs}: the comparison needs one")


def _version(python: Path, peer: str) -> str:
    name = PINS[peer][0].partition("[")[0]
    script = f"from importlib.metadata import version; print(version({name!r}))"
    return _run([str(python), "-c", script]).strip()


def _run(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if run.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed:\n{run.stdout[-1000:]}\n{run.stderr[-2000:]}")
    return run.stdout
