"""The embedded broker in a process of its own: it serves, ends when asked or orphaned, and stays on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

import pika
import psutil
import pytest

from tests.harness.processes import accepts, wait_until
from turbo.embedded_broker import launch
from turbo.embedded_broker.broker import EmbeddedBroker
from turbo.embedded_broker.launch import run_in_subprocess
from turbo.exceptions import ImproperlyConfigured


def test_it_serves_until_it_is_asked_to_end() -> None:
    with run_in_subprocess() as broker:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        channel = connection.channel()
        channel.queue_declare("q")
        assert broker.stop() == 0
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="320"):
            connection.process_data_events(time_limit=5)
    assert not accepts(broker.port)


def test_it_ends_with_whoever_started_it() -> None:
    starter = (
        "import os, sys; from turbo.embedded_broker.launch import run_in_subprocess; broker = run_in_subprocess();"
        "print(broker.pid, broker.port, flush=True); sys.stdin.read(); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        pid, port = map(int, process.stdout.readline().split())
        assert accepts(port)
        process.stdin.close()
        assert process.wait(60) == -signal.SIGKILL

    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_until("the broker's process is gone", gone, 60)


def test_a_taken_port_is_an_error() -> None:
    with run_in_subprocess() as broker, pytest.raises(Exception, match="did not start"):
        run_in_subprocess(broker.port)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1"])
def test_it_refuses_to_be_reachable(host: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="loopback only"):
        asyncio.run(EmbeddedBroker().start(host))


def test_stopping_is_idempotent_and_allowed_before_the_start() -> None:
    async def life() -> None:
        broker = EmbeddedBroker()
        await broker.stop(time.monotonic())
        port = await broker.start()
        assert port
        for _ in range(2):
            await broker.stop(time.monotonic() + 1)

    asyncio.run(life())


def test_the_module_prints_one_line() -> None:
    command = [sys.executable, "-m", "turbo.embedded_broker", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert "ready: amqp://guest:guest@127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait(60) == 0


def test_a_port_is_free_when_nobody_listens_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not launch.free_port(port)
    assert launch.free_port(port)
