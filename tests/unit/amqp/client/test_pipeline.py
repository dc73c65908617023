from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest

from turbo.amqp.client import connection as client_connection
from turbo.amqp.client import methods
from turbo.amqp.client.connection import CHANNEL
from turbo.amqp.client.pipeline import Pipeline
from turbo.amqp.client.publisher import ClientPublisher
from turbo.amqp.publish.frames import publish_frames
from turbo.amqp.topology import Queue
from turbo.amqp.url import parse_broker_url
from turbo.exceptions import OperationalError
from turbo.policy.publish_retry import PublishRetry
from turbo.protocol.properties import Properties, encode_header


class Broker:
    """A socket that returns prepared bytes: one piece per read, whatever frames it contains."""

    def __init__(self) -> None:
        answers = (
            (methods.CONNECTION_START, b""), (methods.CONNECTION_TUNE, struct.pack(">HIH", 0, 0, 0)),
            (methods.CONNECTION_OPEN_OK, b"\0"), (methods.CHANNEL_OPEN_OK, b"\0\0\0\0"),
            (methods.CONFIRM_SELECT_OK, b""),
        )  # fmt: skip
        self.pieces = [b"".join(methods.method(CHANNEL, number, arguments) for number, arguments in answers)]
        self.sending: Callable[[], None] | None = None

    def sendall(self, _data: bytes) -> None:
        if self.sending is not None:
            self.sending()

    def recv(self, _size: int) -> bytes:
        if not self.pieces:
            raise TimeoutError
        return self.pieces.pop(0)

    def settimeout(self, _seconds: float) -> None: ...

    def close(self) -> None: ...


def acknowledged(tag: int) -> bytes:
    return methods.method(CHANNEL, methods.BASIC_ACK, struct.pack(">QB", tag, 0))


def returned(header: bytes) -> tuple[bytes, bytes]:
    """A message that no queue wanted: its method, and its content."""
    texts = b"".join(map(methods.short_string, ("NO_ROUTE", "", "nowhere")))
    arguments = struct.pack(">H", 312) + texts
    method = methods.method(CHANNEL, methods.BASIC_RETURN, arguments)
    whole = publish_frames(CHANNEL, struct.pack(">I", methods.BASIC_RETURN) + arguments, header, b"body", 0)
    return method, b"".join(whole).removeprefix(method)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(client_connection, "_open_socket", lambda *_: cast("socket.socket", broker))
    return broker


@pytest.fixture
def pipeline(broker: Broker) -> Pipeline:
    publisher = ClientPublisher([parse_broker_url("amqp://somewhere")])
    return Pipeline(publisher, window=4, retry=PublishRetry(max_retries=0))


def send(pipeline: Pipeline, header: bytes, **options: Any) -> None:
    pipeline.publish("", "nowhere", header, b"body", mandatory=True, **options)


def test_a_returned_message_is_noticed_wherever_the_stream_is_cut(pipeline: Pipeline, broker: Broker) -> None:
    # The broker's answer is matched by what its header says, so these are real ones.
    first, second, third, fourth = (
        encode_header(Properties(correlation_id=name), len(b"body")) for name in ("first", "second", "third", "fourth")
    )
    method, content = returned(fourth)
    # With four on their way the confirms up to the third are waited for: what comes behind is left as it is.
    broker.pieces += [acknowledged(1) + acknowledged(2) + acknowledged(3) + method, content + acknowledged(4)]
    for header in (first, second, third, fourth):
        send(pipeline, header)
    with pytest.raises(OperationalError, match="NO_ROUTE"):
        pipeline.finish()


def test_a_queue_that_cannot_be_declared_concerns_its_own_message_alone(pipeline: Pipeline, broker: Broker) -> None:
    broker.pieces += [acknowledged(1) + acknowledged(2)]
    send(pipeline, b"first")
    for queue in (Queue("x" * 300), Queue("q", queue_arguments={"x-odd": object()})):
        with pytest.raises(ValueError, match=r"255 bytes|cannot carry object"):
            send(pipeline, b"another", declare=(queue,))
    send(pipeline, b"second")
    pipeline.finish()


def test_what_an_interruption_left_unsure_is_said_at_the_end(pipeline: Pipeline, broker: Broker) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    send(pipeline, b"first")
    broker.sending = interrupt
    with pytest.raises(KeyboardInterrupt):
        send(pipeline, b"second")
    with pytest.raises(OperationalError, match="KeyboardInterrupt; 2 messages of the pipeline are not confirmed"):
        pipeline.finish()


def test_headers_larger_than_a_frame_concern_their_own_message_alone(pipeline: Pipeline, broker: Broker) -> None:
    broker.pieces += [acknowledged(1) + acknowledged(2)]
    send(pipeline, b"first")
    with pytest.raises(ValueError, match="header of 200000 bytes"):
        send(pipeline, b"h" * 200_000)
    send(pipeline, b"second")
    pipeline.finish()
