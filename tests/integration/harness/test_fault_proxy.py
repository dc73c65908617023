"""The proxy does what each of its modes says, seen from both ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.harness.fault_proxy import FaultProxy


@pytest.fixture
def pair() -> Iterator[tuple[FaultProxy, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener, FaultProxy(listener.getsockname()[1]) as proxy:
        yield proxy, listener


def _join(proxy: FaultProxy, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    server, _ = listener.accept()
    server.settimeout(60)
    return client, server


def test_pass_stall_and_pass_again(pair: tuple[FaultProxy, socket.socket]) -> None:
    client, server = _join(*pair)
    with client, server:
        client.sendall(b"a")
        assert server.recv(10) == b"a"
        pair[0].stall()
        client.sendall(b"b")
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.recv(10)
        pair[0].pass_through()
        server.settimeout(60)
        assert server.recv(10) == b"b"


def test_reset_half_close_and_cut(pair: tuple[FaultProxy, socket.socket]) -> None:
    proxy, listener = pair
    client, server = _join(proxy, listener)
    with client, server:
        assert proxy.rst() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionResetError):
            server.recv(1)
    client, server = _join(proxy, listener)
    with client, server:
        proxy.fin("up")
        assert server.recv(1) == b""
        server.sendall(b"still")
        assert client.recv(10) == b"still"
    client, server = _join(proxy, listener)
    with client, server:
        proxy.cut_after(3)
        client.sendall(b"abcdef")
        got = b""
        with pytest.raises(ConnectionResetError):
            while True:
                got += server.recv(10)
        assert got in (b"abc", b"")  # a reset may overtake what was not read yet


def test_refuse_and_blackhole(pair: tuple[FaultProxy, socket.socket]) -> None:
    proxy, listener = pair
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    proxy.pass_through()
    client, server = _join(proxy, listener)
    with client, server:
        proxy.blackhole()
        sender = threading.Thread(target=client.sendall, args=(b"x" * 1000,))
        sender.start()
        sender.join(5)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.recv(10)
