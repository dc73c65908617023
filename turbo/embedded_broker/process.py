"""The main program of the embedded broker: `python -m turbo.embedded_broker`.

Started by `launch.run_in_subprocess`, or by hand. It ends on SIGTERM or SIGINT, and with `--lifeline` when its standard
input ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from turbo.embedded_broker.broker import EmbeddedBroker
from turbo.embedded_broker.launch import READY

if TYPE_CHECKING:
    from collections.abc import Sequence

_STOP_SECONDS = 3.0


def _watch_lifeline(over: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        over.set()


async def serve(port: int, *, lifeline: bool) -> None:
    """Run a broker until a signal, or with `lifeline` until stdin ends.

    The signals are SIGTERM and SIGINT.
    """
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
    except OSError as error:  # most likely the port is in use
        sys.stderr.write(f"the embedded broker cannot serve: {error}\n")
        return 1
    return 0
