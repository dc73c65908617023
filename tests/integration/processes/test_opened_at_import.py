"""What an app opened at import: libraries with fork handlers work in children, other channels are closed there."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.adopted.place import READY, Place
from tests.integration.processes.conftest import HEAD

GRPC = """
import grpc

call = grpc.insecure_channel(os.environ["ECHO"]).unary_unary("/s/echo")
if "worker" in sys.argv:
    call(b"at import", timeout=20)


@app.task(name="proj.same")
def same():
    return [os.getpid(), call(b"same", timeout=20).decode()]


@app.task(name="proj.fresh")
def fresh():
    answer = grpc.insecure_channel(os.environ["ECHO"]).unary_unary("/s/echo")(b"fresh", timeout=20)
    return [os.getpid(), answer.decode()]
"""
#: A library that opens its descriptors anew in a forked process, where they get the old numbers, and one that does not.
FORKS = '''
import select
import socket

opened = {}


def open_all():
    opened["epoll"] = select.epoll()
    opened["event"] = os.eventfd(0)
    opened["pipe"] = os.pipe()
    opened["pair"] = socket.socketpair()


def open_anew():
    numbers = sorted([opened["epoll"].fileno(), opened["event"], *opened["pipe"], *map(int, numbers_of_pair())])
    opened["epoll"].close()
    os.close(opened["event"])
    for each in opened["pipe"]:
        os.close(each)
    for each in opened["pair"]:
        each.close()
    open_all()
    again = sorted([opened["epoll"].fileno(), opened["event"], *opened["pipe"], *map(int, numbers_of_pair())])
    opened["same numbers"] = again == numbers


def numbers_of_pair():
    return [each.fileno() for each in opened["pair"]]


open_all()
os.register_at_fork(after_in_child=open_anew)
kept = socket.create_connection(("127.0.0.1", int(os.environ["PEER"])))
log = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "log"), "a")


@app.task(name="proj.anew")
def anew():
    """Use everything; what works."""
    works = []
    os.eventfd_write(opened["event"], 3)
    opened["epoll"].register(opened["event"], select.EPOLLIN)
    if opened["epoll"].poll(1) == [(opened["event"], select.EPOLLIN)] and os.eventfd_read(opened["event"]) == 3:
        works.append("epoll")
    opened["epoll"].unregister(opened["event"])
    os.write(opened["pipe"][1], b"x")
    if os.read(opened["pipe"][0], 1) == b"x":
        works.append("pipe")
    opened["pair"][0].send(b"y")
    if opened["pair"][1].recv(1) == b"y":
        works.append("pair")
    return works, opened["same numbers"]


@app.task(name="proj.shared")
def shared():
    """What the connection that the app made at import is here, and whether its log is still open."""
    log.write("line\\n")
    log.flush()
    return os.readlink(f"/proc/self/fd/{kept.fileno()}")
'''


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a gRPC server."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.processes.echo_server"],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()
        assert server.wait(60) == 0


@pytest.mark.row("PL23")
def test_a_grpc_channel_of_the_import_and_a_fresh_one_work_in_every_child(place: Place, lib: str, echo: str) -> None:
    place.write(GRPC, head=HEAD)
    with place.worker("-c", "2", "--max-tasks-per-child", "2", env={"LIB": lib, "ECHO": echo}) as worker:
        worker.wait_for_line(READY)
        pids = set()
        for _ in range(6):
            for name in ("same", "fresh"):
                pid, answer = place.client.send_task(f"proj.{name}", queue="celery").get(timeout=60)
                assert answer == name
                pids.add(pid)
        assert len(pids) > 2, "no child was ever replaced"
        worker.terminate()
        assert worker.wait(60) == 0


@pytest.mark.row("PL23")
def test_what_is_opened_anew_in_a_fork_stays_and_what_is_not_is_cut_off(place: Place, lib: str) -> None:
    place.write(FORKS, head=HEAD)
    with socket.create_server(("127.0.0.1", 0)) as peer:
        env = {"LIB": lib, "PEER": str(peer.getsockname()[1])}
        with place.worker("-c", "2", env=env) as worker:
            worker.wait_for_line(READY)

            def ask(name: str) -> Any:
                return place.client.send_task(f"proj.{name}", queue="celery").get(timeout=60)

            for _ in range(4):
                assert ask("anew") == [["epoll", "pipe", "pair"], True]
                assert ask("shared") == "/dev/null"
            worker.terminate()
            assert worker.wait(60) == 0
    assert (place.directory / "log").read_text() == "line\n" * 4
