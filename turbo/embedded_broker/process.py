"""The embedded broker in a process of its own, for `turbo demo` and `turbo worker --embedded-broker`.

`run_in_subprocess` is called by a command before it starts anything else; `serve` is that process's life. The
process ends when it is told to, or when whoever started it is gone: its standard input is a lifeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from turbo.embedded_broker.broker import EmbeddedBroker
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

#: The one line that the process prints when it serves; the number is the port.
READY = "turbo embedded broker (in memory, loopback only, for trying turbo) ready: amqp://guest:guest@127.0.0.1:"
_START_SECONDS = 20.0
_STOP_SECONDS = 3.0


class BrokerProcess:
    """A running embedded broker; `url` is what clients connect to."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self.pid = process.pid
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self._process = process

    def stop(self, timeout: float = 5.0) -> int:
        """End it, by force after `timeout` seconds; its exit status. Idempotent."""
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


def run_in_subprocess(port: int = 0) -> BrokerProcess:
    """Start the broker on 127.0.0.1:`port` (0: a free one) and wait until it serves.

    It has a session of its own, so that Ctrl-C at the terminal reaches the worker first. OperationalError
    when it does not come up.
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
        raise OperationalError(f"the embedded broker did not start; it said {line!r}")
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


def _watch_lifeline(over: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        over.set()


async def serve(port: int, *, lifeline: bool) -> None:
    """Run a broker until SIGTERM or SIGINT, or with `lifeline` until standard input ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if lifeline:
        loop.add_reader(sys.stdin.fileno(), _watch_lifeline, over)
    broker = EmbeddedBroker()
    bound = await broker.start(port=port)
    sys.stdout.write(f"{READY}{bound}//\n")
    sys.stdout.flush()
    await over.wait()
    if lifeline:
        loop.remove_reader(sys.stdin.fileno())
    await broker.stop(time.monotonic() + _STOP_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """`python -m turbo.embedded_broker [--port N] [--lifeline]`."""
    values = list(arguments)
    port = int(values[values.index("--port") + 1]) if "--port" in values else 0
    try:
        uvloop.run(serve(port, lifeline="--lifeline" in values))
    except OSError as error:  # the port is taken, most likely
        sys.stderr.write(f"the embedded broker cannot serve: {error}\n")
        return 1
    return 0
