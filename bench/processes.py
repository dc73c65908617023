"""Processes that the bench starts: servers and workers. None of them outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(RuntimeError):
    """The bench cannot go on: something is missing, died, or did not do what it was measured doing."""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def launch(argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, its output going to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def family(pid: int) -> list[psutil.Process]:
    """The process and all its living descendants, itself first; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[bytes], *, patience: float) -> bool:
    """Ask the process to end, wait ``patience`` seconds, then kill what is left; whether it ended by itself."""
    everyone = family(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience)
        ended = True
    except subprocess.TimeoutExpired:
        ended = False
    _kill(process, everyone)
    psutil.wait_procs(everyone[1:], timeout=10)
    return ended


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and all its descendants; waits for the process alone."""
    _kill(process, family(process.pid))


def _kill(process: subprocess.Popen[bytes], everyone: list[psutil.Process]) -> None:
    for member in everyone:
        try:
            member.kill()  # psutil checks that the pid is still the same process
        except psutil.NoSuchProcess:
            continue
    process.wait(10)


def wait_until(what: str, ready: Callable[[], bool], timeout: float, *, every: float = 0.02) -> None:
    """Poll ``ready`` every ``every`` seconds; BenchError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {timeout:g} s")
        time.sleep(every)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether something listens on 127.0.0.1:``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def clean_environment() -> dict[str, str]:
    """Our environment without what would change how a worker runs."""
    unwanted = ("PYTHON", "CELERY", "TURBO", "DRAMATIQ", "BENCH", "COVERAGE", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
