"""Real Celery in several versions, and a monitor: from the test environment, or from cached environments.

A cached environment is built by pip at first use, under the user's cache directory, and reused by later runs. It
contains everything it needs: PYTHONPATH and pip's settings are removed when it is built and when a program runs in it.
It counts as complete after a check of its packages.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.processes import HarnessError

#: Short version -> what pip installs. "current" is the Celery of the environment that runs the tests.
_OLD = ("celery[redis]==5.3.6", "pyyaml", "msgpack", "zstandard", "setuptools<81")
CURRENT = "current"
#: Celery 5.3 with what turbo needs beside it; turbo itself is found where the tests find it.
OLD_WITH_TURBO = "5.3 with turbo"
#: The newest Celery that celery-batches allows, with what turbo needs beside it.
BATCHES_WITH_TURBO = "5.6 with celery-batches and turbo"
#: The exporter for Prometheus that labels by queue. It needs older libraries, and its package is called ``src``.
EXPORTER = "exporter"


def _requirements() -> tuple[str, ...]:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    return (*project["dependencies"], *project["optional-dependencies"]["redis"])


#: Prints each of the named distributions that is not in the environment itself, or not whole; imports Celery.
_CHECK = """
import sys
from importlib.metadata import distributions
found = distributions(path=[path for path in sys.path if path.startswith(sys.prefix)])
whole = {
    each.metadata["name"].lower().replace("_", "-")
    for each in found
    if all(file.locate().exists() for file in each.files or () if file.suffix == ".py")
}
print(*(name for name in sys.argv[1:] if name not in whole))
import celery
"""
#: Settings of the caller's Python and pip that would put packages elsewhere, or take them from there.
_FOREIGN = ("PYTHON", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_CONSTRAINT", "__PYVENV")

_PINS = {
    "5.3": _OLD,
    OLD_WITH_TURBO: (*_OLD, *_requirements()),
    BATCHES_WITH_TURBO: ("celery[redis]==5.6.*", "celery-batches==0.11", *_requirements()),
    # Its newest version is for Python up to 3.12.
    **({EXPORTER: ("prometheus-exporter-celery==0.11.2",)} if sys.version_info < (3, 13) else {}),
}


def prepare() -> None:
    """Build the cached environments before the first test, since that can take longer than a test's time limit.

    Ends the test run if that fails.
    """
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(celery_python, _PINS))
    except HarnessError as error:
        pytest.exit(f"the tests need an older Celery beside the current one: {error}", returncode=3)


def celery_python(version: str) -> Path:
    """Return the Python interpreter of the environment ("5.3", "current", ...)."""
    if version == CURRENT:
        return Path(sys.executable)
    return _cached(version)


def celery_producer(
    version: str, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 120
) -> str:
    """Run `script` (dedented) with that Celery; return its standard output.

    Raises HarnessError with the output if the script fails.
    """
    run = subprocess.run(
        [str(celery_python(version)), "-c", textwrap.dedent(script), *arguments],
        env={**own_environment(), "PYTHONWARNINGS": "ignore", **(env or {})},
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
        if complete.exists() and complete.read_text() == repr(requirements) and not _missing(python, requirements):
            return python
        shutil.rmtree(place, ignore_errors=True)
        _run(place, [sys.executable, "-I", "-m", "venv", str(place)])
        _run(place, [str(python), "-I", "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements])
        if missing := _missing(python, requirements):
            raise HarnessError(f"{place} is not complete after pip's installation: {missing}")
        complete.write_text(repr(requirements))
    return python


def own_environment() -> dict[str, str]:
    """Return the environment of this process without variables that select packages of another Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def _missing(python: Path, requirements: tuple[str, ...]) -> str:
    """Return the requirements that the environment does not contain itself; "" if it is complete."""
    names = [re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in requirements]
    try:
        run = subprocess.run(
            [str(python), "-I", "-c", _CHECK, *names],
            env=own_environment(), capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return run.stdout.strip() or run.stderr.strip()[-1000:]


def _run(place: Path, command: list[str]) -> None:
    run = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False, timeout=600)
    if run.returncode != 0:
        raise HarnessError(
            f"{place} could not be built; the next run tries again.\n"
            f"{' '.join(command)} failed:\n{run.stdout[-1000:]}\n{run.stderr[-2000:]}"
        )
