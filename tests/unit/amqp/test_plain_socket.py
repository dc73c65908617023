"""One system call for a read and for a write: over a real socket pair and pika's own transport."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport, _AsyncSSLTransport

from turbo.amqp import plain_socket


class Services:
    """pika's view of a loop: nothing is watched."""

    def set_reader(self, fd: int, on_readable: object) -> None:
        self.on_readable: Any = on_readable

    def set_writer(self, fd: int, on_writable: object) -> None:
        self.on_writable: Any = on_writable

    def remove_writer(self, fd: int) -> None:
        del self.on_writable


class Protocol:
    """Keeps what was received."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.received.append(data)

    def eof_received(self) -> bool:
        self.ended = True
        return True


class World:
    """A transport and its peer."""

    def __init__(self) -> None:
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.services, self.protocol = Services(), Protocol()
        self.services.remove_reader = lambda fd: None  # type: ignore[attr-defined]
        self.transport = _AsyncPlaintextTransport(self.ours, self.protocol, self.services)  # type: ignore[arg-type]


def _no_room() -> None:
    return None


def _filled(count: int) -> None:
    raise AssertionError(f"{count} bytes without a place")


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with made.ours, made.peer:
        yield made


def test_only_a_connection_without_tls_is_plain(world: World) -> None:
    assert plain_socket.is_plain(world.transport)
    assert not plain_socket.is_plain(_AsyncSSLTransport.__new__(_AsyncSSLTransport))


def test_each_readable_event_reads_once_up_to_the_limit(world: World) -> None:
    plain_socket.read_once(world.transport, 4, _no_room, _filled)
    world.peer.send(b"abcdef")
    world.services.on_readable()
    assert world.protocol.received == [b"abcd"]
    world.services.on_readable()
    assert world.protocol.received == [b"abcd", b"ef"]
    world.services.on_readable()
    assert world.protocol.received == [b"abcd", b"ef"], "nothing is there: no error"


def test_a_place_is_filled_first_and_a_little_more_is_handed_on(world: World) -> None:
    body, counts = bytearray(6), []
    plain_socket.read_once(world.transport, 4, lambda: memoryview(body)[sum(counts) :], counts.append)
    world.peer.send(b"abcd")
    world.services.on_readable()
    assert (bytes(body), counts, world.protocol.received) == (b"abcd\0\0", [4], [])
    world.peer.send(b"efghi")
    world.services.on_readable()
    assert (bytes(body), counts, world.protocol.received) == (b"abcdef", [4, 2], [b"ghi"])


def test_an_event_without_data_leaves_a_place_as_it_was(world: World) -> None:
    body = bytearray(6)
    plain_socket.read_once(world.transport, 4, lambda: memoryview(body), _filled)
    world.services.on_readable()
    body.extend(b"no view of it is left")
    assert not world.protocol.ended
    world.peer.close()
    world.services.on_readable()
    assert world.protocol.ended


def test_the_end_of_the_stream_is_pikas_to_handle(world: World) -> None:
    plain_socket.read_once(world.transport, 4, _no_room, _filled)
    world.peer.close()
    world.services.on_readable()
    assert world.protocol.ended


def test_a_write_leaves_at_once(world: World) -> None:
    assert plain_socket.send_now(world.transport, b"ack") == b""
    assert world.peer.recv(10) == b"ack"


def test_what_the_socket_does_not_take_is_left_and_order_is_kept(world: World) -> None:
    data = bytes(range(256)) * 40_000
    rest = plain_socket.send_now(world.transport, data)
    assert 0 < len(rest) < len(data)
    assert plain_socket.send_now(world.transport, rest) == rest, "the socket is full"
    world.transport.write(rest)
    assert plain_socket.send_now(world.transport, b"later") == b"later", "pika's buffer comes first"
    world.transport.write(b"later")
    received = b""
    while len(received) < len(data) + 5:
        received += world.peer.recv(1 << 20)
        if world.transport.get_write_buffer_size():
            world.services.on_writable()
    assert received == data + b"later"


def test_an_error_is_left_to_pika(world: World) -> None:
    world.peer.close()
    assert plain_socket.send_now(world.transport, b"x") == b"x"
