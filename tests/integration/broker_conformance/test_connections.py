"""Connections: logins, faults that end them, heartbeats; and what is no AMQP at all."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pika
import pytest

from tests.harness.embedded import BrokerUnderTest
from tests.integration.broker_conformance.clients import collect, consume
from tests.integration.broker_conformance.conftest import Connect

GREETING = b"AMQP\x00\x00\x09\x01"


@pytest.fixture
def raw(any_broker: BrokerUnderTest) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", any_broker.port), timeout=60) as link:
        yield link


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def _read_frame(link: socket.socket) -> tuple[int, int, bytes]:
    kind, channel, size = struct.unpack(">BHI", _read(link, 7))
    payload = _read(link, size + 1)
    assert payload[-1] == 0xCE
    return kind, channel, payload[:-1]


def _read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        assert piece, f"closed after {data!r}"
        data += piece
    return data


def _rest(link: socket.socket) -> bytes:
    """What still comes before the broker ends the connection, in whichever way."""
    data = b""
    while True:
        try:
            piece = link.recv(4096)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def _log_in(link: socket.socket, vhost: str, heartbeat: int = 0) -> None:
    link.sendall(GREETING)
    assert _read_frame(link)[2][:4] == b"\x00\x0a\x00\x0a"
    response = b"\x00guest\x00guest"
    start_ok = (
        b"\x00\x0a\x00\x0b" + bytes(4) + b"\x05PLAIN" + struct.pack(">I", len(response)) + response + b"\x05en_US"
    )
    link.sendall(_frame(1, 0, start_ok))
    assert _read_frame(link)[2][:4] == b"\x00\x0a\x00\x1e"
    name = vhost.rpartition("/")[2].encode()
    link.sendall(
        _frame(1, 0, b"\x00\x0a\x00\x1f" + struct.pack(">HIH", 2047, 131072, heartbeat))
        + _frame(1, 0, b"\x00\x0a\x00\x28" + bytes([len(name)]) + name + b"\x00\x00")
    )
    assert _read_frame(link)[2][:4] == b"\x00\x0a\x00\x29"


def _closed_with(link: socket.socket) -> int:
    """The code of the connection.close that comes."""
    while True:
        kind, channel, payload = _read_frame(link)
        if (kind, channel, payload[:4]) == (1, 0, b"\x00\x0a\x00\x32"):
            return int.from_bytes(payload[4:6], "big")


def test_a_wrong_password(any_broker: BrokerUnderTest) -> None:
    url = any_broker.url.replace("guest:guest", "guest:wrong")
    with pytest.raises(
        (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ProbableAuthenticationError)
    ) as caught:
        pika.BlockingConnection(pika.URLParameters(url))
    assert "403" in str(caught.value)


def test_the_wrong_protocol_is_answered_with_the_right_one(raw: socket.socket, any_broker: BrokerUnderTest) -> None:
    raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
    # RabbitMQ 4 would rather speak AMQP 1.0 with whoever asks for nothing that it knows.
    assert _read(raw, 8) == (GREETING if any_broker.release < (4, 0) else b"AMQP\x03\x01\x00\x00")
    assert _rest(raw) == b""


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (_frame(1, 1, b"\x00\x32\x00\x0a" + bytes(8)), 504),  # a queue.declare on a channel that is not open
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x32\x00", 501),  # no end mark
        (struct.pack(">BHI", 1, 0, 200_000), 501),  # larger than agreed
        (
            _frame(1, 1, b"\x00\x14\x00\x0a\x00") + _frame(2, 1, bytes(14)),
            505,
        ),  # content that nothing announced
    ],
)
def test_broken_frames_end_the_connection(
    any_broker: BrokerUnderTest, raw: socket.socket, frames: bytes, code: int
) -> None:
    _log_in(raw, any_broker.url)
    raw.sendall(frames)
    if code == 501 and any_broker.kind == "rabbitmq":  # it may close without a word, as the stream is not to be trusted
        return
    assert _closed_with(raw) == code


def test_arguments_that_do_not_decode(any_broker: BrokerUnderTest, raw: socket.socket, connect: Connect) -> None:
    _log_in(raw, any_broker.url)
    raw.sendall(_frame(1, 1, b"\x00\x14\x00\x0a\x00") + _frame(1, 1, b"\x00\x32\x00\x0a\x00\x00\xffq"))
    assert _closed_with(raw) in (501, 502, 541)
    connect().channel().queue_declare("the broker lives")


def test_a_silent_client_is_dropped_and_hears_heartbeats_before(
    any_broker: BrokerUnderTest, raw: socket.socket
) -> None:
    _log_in(raw, any_broker.url, heartbeat=1)
    assert _frame(8, 0, b"") in _rest(raw)


def test_a_client_that_reads_slowly_gets_everything_in_the_end(connect: Connect) -> None:
    sender = connect().channel()
    sender.confirm_delivery()
    sender.queue_declare("q")
    body = bytes(200_000)
    for _ in range(60):
        sender.basic_publish("", "q", body)
    receiver = connect().channel()
    got = consume(receiver, "q", auto_ack=True)
    sender.queue_declare("q")  # it answers others although this one does not read
    collect(receiver, got, 60)
    assert all(len(each[2]) == len(body) for each in got)


def test_reusing_a_consumer_tag_ends_the_connection(connect: Connect) -> None:
    channel = connect().channel()
    channel.queue_declare("q")
    from_client = channel._impl
    frame = b"\x00\x3c\x00\x14" + b"\x00\x00" + b"\x01q" + b"\x01t" + b"\x00" + bytes(4)
    closed: list[BaseException] = []
    from_client.connection.add_on_close_callback(lambda _, reason: closed.append(reason))
    for _ in range(2):
        from_client.connection._output_marshaled_frames([_frame(1, int(channel), frame)])
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="530.*reuse consumer tag"):
        while True:
            channel.connection.process_data_events(time_limit=0.2)
