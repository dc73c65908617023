"""Starts and ends child processes that must not outlive the test run, however it ends.

Fixtures start every server with `spawn`: it gets its own process group, is killed when the thread that started it dies,
and is ended with its descendants by `end`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

#: Seconds to wait for what must happen. Only a test that fails waits so long; a machine that runs several tests may
#: need many seconds to start one process.
PATIENCE = 60.0
_PR_SET_PDEATHSIG = 1
_PRESSURE = Path("/proc/pressure/cpu")
_libc = ctypes.CDLL(None, use_errno=True)


class HarnessError(RuntimeError):
    """A server or tool of the tests failed, or did not answer in time."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that was free just now.

    It is below those that Linux gives to outgoing connections by default: one of them could take the port while the
    server that it was chosen for is being restarted.
    """
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


def _die_with_parent() -> None:
    # A run in the background of a shell, or under nohup, ignores these, and so would every program that it starts.
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start `argv` as the leader of a new session; it is killed when the test run dies."""
    return subprocess.Popen(
        [str(part) for part in argv],
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def family(pid: int) -> list[psutil.Process]:
    """Return the process and all its living descendants; empty if the process has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[bytes], *, gently: int | None = signal.SIGTERM, patience: float = 10) -> None:
    """End a process, its group and its descendants; return when all have ended.

    The process first gets the signal ``gently`` (None: none) and ``patience`` seconds.
    """
    everyone = family(process.pid)
    if gently is not None and process.poll() is None:
        process.send_signal(gently)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    for member in everyone:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait(PATIENCE)
    wait_until(f"the family of {process.args!r} is gone", lambda: not any(map(_alive, everyone)), PATIENCE)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # an orphan's zombie is init's to reap
    except psutil.NoSuchProcess:
        return False


def wait_until(what: str, ready: Callable[[], bool], timeout: float, *, every: float = 0.02) -> None:
    """Call `ready` every `every` seconds until it returns true.

    Raises HarnessError with the description `what` after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise HarnessError(f"{what}: not within {timeout:g} s")
        time.sleep(every)


class Stopwatch:
    """Measures seconds since its creation, without those in which some process waited for a CPU.

    For guarantees in seconds that are tested while other tests run. The kernel counts the waiting time (PSI); on a
    kernel without PSI all seconds count.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _stalled()

    @property
    def seconds(self) -> float:
        """Seconds so far, without the stalled ones."""
        return max(0.0, time.monotonic() - self._began - self.stalled)

    @property
    def stalled(self) -> float:
        """The seconds that are not counted, to correct a time that was measured otherwise."""
        return _stalled() - self._before


def _stalled() -> float:
    """Return the seconds since the machine's start in which some process waited for a CPU."""
    try:
        account = _PRESSURE.read_text()
    except OSError:  # a kernel without PSI
        return 0.0
    return int(account.split("total=", 1)[1].split()[0]) / 1e6


def accepts(port: int) -> bool:
    """Return whether a server accepts connections on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
