"""Real Celery of several versions: the test environment's own, and older ones in cached environments.

A cached environment is built at first use, by pip, under the user's cache directory, and found again by
later runs.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.processes import HarnessError

#: Short version -> what pip installs. "current" is the Celery of the environment that runs the tests.
_OLD = ("celery[redis]==5.3.6", "pyyaml", "msgpack", "zstandard", "setuptools<81")
CURRENT = "current"
#: Celery 5.3 with what turbo needs beside it; turbo itself is found where the tests find it.
OLD_WITH_TURBO = "5.3 with turbo"


def _requirements() -> tuple[str, ...]:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    return (*project["dependencies"], *project["optional-dependencies"]["redis"])


_PINS = {"5.3": _OLD, OLD_WITH_TURBO: (*_OLD, *_requirements())}


def prepare() -> None:
    """Build the cached environments, before any test has to wait for that: it may take longer than a test may.

    Ends the test run where that fails.
    """
    try:
        for version in _PINS:
            celery_python(version)
    except HarnessError as error:
        pytest.exit(f"the tests need an older Celery beside the current one: {error}", returncode=3)


def celery_python(version: str) -> Path:
    """The interpreter whose `import celery` gives that version ("5.3" or "current")."""
    if version == CURRENT:
        return Path(sys.executable)
    return _cached(version)


def celery_producer(
    version: str, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60
) -> str:
    """Run `script` (dedented) with that Celery; its standard output. A failure raises with what it said."""
    run = subprocess.run(
        [str(celery_python(version)), "-c", textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONWARNINGS": "ignore", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    if run.returncode != 0:
        raise HarnessError(f"the Celery {version} script failed ({run.returncode}):\n{run.stdout}\n{run.stderr}")
    return run.stdout


@functools.cache
def _cached(version: str) -> Path:
    requirements = _PINS[version]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turbo-tests"
    root.mkdir(parents=True, exist_ok=True)
    place = root / f"celery-{version.replace(' ', '-')}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, complete = place / "bin" / "python", place / ".complete"
    with (root / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building the same one
        if complete.exists() and complete.read_text() == repr(requirements) and python.exists():
            return python
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements])
        complete.write_text(repr(requirements))
    return python


def _run(command: list[str]) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if run.returncode != 0:
        raise HarnessError(f"{' '.join(command)} failed:\n{run.stdout[-1000:]}\n{run.stderr[-2000:]}")
