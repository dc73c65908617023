"""Starts the embedded broker in a process of its own.

`turbo demo` and `turbo worker --embedded-broker` use it before it starts anything else. It must never import the broker
itself, so that a worker without one does not load it. `process` is the main program of the started process, which ends
on SIGTERM, or when the process that started it is gone, because its standard input is a lifeline.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from types import TracebackType

#: The line that the process prints when it serves; the port follows.
READY = "turbo embedded broker (in memory, loopback only, for trying turbo) ready: amqp://guest:guest@127.0.0.1:"
_START_SECONDS = 20.0


class BrokerProcess:
    """A running embedded broker; clients connect to `url`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self.pid = process.pid
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self._process = process

    def stop(self, timeout: float = 5.0) -> int:
        """End the process, by force after `timeout` seconds; return its exit status.

        Idempotent.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()

    def __enter__(self) -> BrokerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def free_port(port: int) -> bool:
    """Whether nobody listens at this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run_in_subprocess(port: int = 0) -> BrokerProcess:
    """Start the broker at 127.0.0.1:`port` (0: a free one) and wait until it serves.

    It has a session of its own, so that Ctrl-C at the terminal reaches only the worker. Raises OperationalError if it
    does not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "turbo.embedded_broker", "--port", str(port), "--lifeline"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    line = _first_line(process)
    if not line.startswith(READY):
        BrokerProcess(process, port).stop()
        raise OperationalError(f"the embedded broker did not start; it printed {line!r}")
    return BrokerProcess(process, int(line.removeprefix(READY).rstrip("/\n")))


def _first_line(process: subprocess.Popen[bytes]) -> str:
    stdout = process.stdout
    assert stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not data.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(stdout.fileno(), 4096)
            if not piece:
                break
            data += piece
    return data.decode(errors="replace")
