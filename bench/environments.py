"""A virtual environment for each peer, built at first use under the user's cache directory.

Versions are pinned here; a changed pin builds the environment anew. An earlier turbo and a compiled one are built from
this repository's commits, with the versions of libraries that the turbo under test has.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent

#: Peer -> what pip installs.
PINS: dict[str, tuple[str, ...]] = {
    "celery": ("celery[redis]==5.7.0",),
    "dramatiq": ("dramatiq[rabbitmq]==2.2.1",),
    "taskiq": ("taskiq==0.13.0", "taskiq-aio-pika==0.6.1"),
}
#: The turbo before the work on its speed began: what ``turbo-old`` is unless ``$BENCH_OLD_TURBO`` names a commit.
OLD_TURBO = "3748d1667d13"
#: What turbo's environments have beside it: the Celery whose apps it adopts, with turbo's own version of redis.
_BESIDE_TURBO = (PINS["celery"][0].replace("[redis]", ""),)


def cache() -> Path:
    """Where the environments are: ``$XDG_CACHE_HOME/turbo-bench``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turbo-bench"


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment, which is built if need be (a minute, and a package index)."""
    pins = PINS[peer]
    return _environment(peer, repr(pins), lambda python: _install(python, *pins))


def turbo_python() -> Path:
    """The interpreter that runs turbo: ``$BENCH_TURBO_PYTHON``, or the one that runs the bench."""
    return Path(os.environ.get("BENCH_TURBO_PYTHON") or sys.executable)


def old_turbo_commit() -> str:
    """The commit of ``turbo-old``; of an interpreter in ``$BENCH_OLD_TURBO_PYTHON`` only that it is one."""
    if os.environ.get("BENCH_OLD_TURBO_PYTHON"):
        return "that of $BENCH_OLD_TURBO_PYTHON"
    return _commit(os.environ.get("BENCH_OLD_TURBO") or OLD_TURBO)


def old_turbo_python() -> Path:
    """The interpreter of ``turbo-old``: ``$BENCH_OLD_TURBO_PYTHON``, or an environment built from its commit."""
    given = os.environ.get("BENCH_OLD_TURBO_PYTHON")
    return Path(given) if given else _built(old_turbo_commit(), compiled=False)


def compiled_turbo_commit() -> str:
    """The commit of ``turbo-compiled``: the current one."""
    if os.environ.get("BENCH_COMPILED_TURBO_PYTHON"):
        return "that of $BENCH_COMPILED_TURBO_PYTHON"
    return _commit("HEAD")


def compiled_turbo_python() -> Path:
    """The interpreter of ``turbo-compiled``: ``$BENCH_COMPILED_TURBO_PYTHON``, or one built (some minutes)."""
    given = os.environ.get("BENCH_COMPILED_TURBO_PYTHON")
    return Path(given) if given else _built(compiled_turbo_commit(), compiled=True)


def installed(peer: str) -> str:
    """The installed version of a peer's distribution in its environment."""
    return _version(python_of(peer), peer)


def check_same(peer: str) -> None:
    """See that the environment of turbo has the peer's distribution too, in the same version; else BenchError."""
    theirs, ours = installed(peer), _version(turbo_python(), peer)
    if ours != theirs:
        raise BenchError(f"turbo's environment has {peer} {ours}, the peer's has {theirs}: the comparison needs one")


@functools.cache
def _built(commit: str, *, compiled: bool) -> Path:
    """The interpreter of an environment with turbo of that commit."""
    listed = _run([str(turbo_python()), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"])
    limits = [line for line in listed.splitlines() if not line.startswith("turbo-worker=")]
    name = f"turbo-{commit[:12]}{'-compiled' if compiled else ''}"

    def install(python: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="turbo-bench-source-") as scratch:
            source, versions = Path(scratch) / "source", Path(scratch) / "constraints.txt"
            source.mkdir()
            versions.write_text("\n".join(limits) + "\n")
            archive = Path(scratch) / "source.tar"
            _run(["git", "-C", str(ROOT), "archive", "-o", str(archive), commit])
            shutil.unpack_archive(archive, source, filter="data")
            env = {**os.environ, "TURBO_COMPILE": "1"} if compiled else None
            _install(python, "-c", str(versions), f"{source}[redis]", *_BESIDE_TURBO, env=env)
        if compiled:
            _check_compiled(python)

    return _environment(name, repr(limits), install)


def _check_compiled(python: Path) -> None:
    script = "import pathlib, turbo; print(any(pathlib.Path(turbo.__file__).parent.rglob('*.so')))"
    if _run([str(python), "-P", "-c", script]).strip() != "True":
        raise BenchError("TURBO_COMPILE=1 pip install compiled nothing: turbo-compiled cannot be measured")


def _environment(name: str, content: str, install: Callable[[Path], None]) -> Path:
    """The interpreter of the environment ``name``, built by ``install`` unless it is there with this ``content``."""
    root = cache()
    root.mkdir(parents=True, exist_ok=True)
    place = root / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, complete = place / "bin" / "python", place / ".complete"
    with (root / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building the same one
        if complete.exists() and complete.read_text() == content and python.exists():
            return python
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        install(python)
        complete.write_text(content)
    return python


def _install(python: Path, *what: str, env: dict[str, str] | None = None) -> None:
    _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *what], env)


@functools.cache
def _commit(name: str) -> str:
    try:
        return _run(["git", "-C", str(ROOT), "rev-parse", "--verify", f"{name}^{{commit}}"]).strip()[:12]
    except BenchError as error:
        raise BenchError(f"this is no repository with the commit {name} of turbo: {error}") from error


@functools.cache
def _version(python: Path, peer: str) -> str:
    name = PINS[peer][0].partition("[")[0].partition("==")[0]
    script = f"from importlib.metadata import version; print(version({name!r}))"
    return _run([str(python), "-c", script]).strip()


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800, env=env)
    if run.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed:\n{run.stdout[-1000:]}\n{run.stderr[-2000:]}")
    return run.stdout
