"""The parts of pika that the fast path leans on and that are not its public interface.

Each test pins one of them. When one fails after an upgrade of pika, read `turbo/amqp/fast_connection.py`
before anything else: its assumptions have moved.
"""

from __future__ import annotations

import inspect

import pika
import pytest
from pika import connection, exceptions, frame, heartbeat, spec
from pika.adapters import base_connection
from pika.adapters.utils import io_services_utils
from pika.channel import Channel

from turbo.amqp.fast_connection import FastConnection, PublishConnection, PublishRefused
from turbo.amqp.frame_splitter import DELIVER

BaseConnection = base_connection.BaseConnection
Connection = connection.Connection
Transport = io_services_utils._AsyncTransportBase


def source(thing: object) -> str:
    return inspect.getsource(thing)


def arguments(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


class Idle(FastConnection):
    """A connection that never connects: what pika does to it can be looked at."""

    def __init__(self) -> None:
        import asyncio

        loop = asyncio.new_event_loop()
        try:
            super().__init__(pika.ConnectionParameters(), loop)
        finally:
            loop.close()

    def _adapter_connect_stream(self) -> None:
        pass


class TransportStub:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))


@pytest.fixture
def idle() -> Idle:
    return Idle()


def opened(connection: FastConnection) -> TransportStub:
    transport = TransportStub()
    connection._transport = transport
    connection._opened = True
    connection._set_connection_state(connection.CONNECTION_OPEN)
    return transport


def test_01_on_data_available_gets_the_sockets_bytes() -> None:
    assert arguments(Connection._on_data_available) == ["self", "data_in"]
    assert "self._on_data_available(data)" in source(BaseConnection._proto_data_received)


def test_02_the_shim_binds_the_connections_methods_when_made(idle: Idle) -> None:
    shim = base_connection._StreamingProtocolShim(idle)
    assert shim.connection_made.__func__ is FastConnection._proto_connection_made
    assert shim.data_received.__func__ is BaseConnection._proto_data_received
    assert shim.conn is idle


def test_03_connection_made_sets_the_transport_and_loss_unsets_it(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "_on_stream_connected", lambda self: None)
    transport = TransportStub()
    idle._proto_connection_made(transport)
    assert idle._transport is transport
    monkeypatch.setattr(Connection, "_on_stream_terminated", lambda self, error: None)
    idle._proto_connection_lost(None)
    assert idle._transport is None


def test_04_the_transport_reads_its_limits_through_self_and_hands_over_bytes() -> None:
    assert Transport._MAX_RECV_BYTES == 4096
    assert Transport._MAX_CONSUME_BYTES == 102400
    consume = source(Transport._consume)
    assert "self._MAX_RECV_BYTES" in consume
    assert "self._MAX_CONSUME_BYTES" in consume
    assert "self._protocol.data_received(" in consume
    assert not hasattr(Transport, "__slots__"), "the limits are set on the instance"


def test_05_frame_buffer_holds_the_rest_and_trimming_counts_whole_frames(idle: Idle) -> None:
    assert idle._frame_buffer == b""
    assert idle.bytes_received == 0
    idle._frame_buffer = b"abcdef"
    idle._trim_frame_buffer(4)
    assert (idle._frame_buffer, idle.bytes_received) == (b"ef", 4)


def test_06_the_heartbeat_checker_looks_at_bytes_received(idle: Idle) -> None:
    checker = heartbeat.HeartbeatChecker.__new__(heartbeat.HeartbeatChecker)
    checker._connection = idle
    checker._bytes_received = 0
    assert not checker._has_received_data
    idle.bytes_received = 5
    assert checker.bytes_received_on_connection == 5
    assert checker._has_received_data


def test_07_process_frame_counts_then_callbacks_then_the_channel(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(idle, "_process_callbacks", lambda value: order.append("callbacks") or False)
    monkeypatch.setattr(idle, "_deliver_frame_to_channel", lambda value: order.append("channel"))
    before = idle.frames_received
    idle._process_frame(frame.Method(1, spec.Basic.CancelOk("t")))
    assert order == ["callbacks", "channel"]
    assert idle.frames_received == before + 1
    monkeypatch.setattr(idle, "_process_callbacks", lambda value: order.append("taken") or True)
    idle._process_frame(frame.Method(1, spec.Basic.CancelOk("t")))
    assert order == ["callbacks", "channel", "taken"]


def test_08_decode_frame_and_the_ids_of_methods() -> None:
    data = frame.Method(3, spec.Basic.Ack(9, True)).marshal()
    used, value = frame.decode_frame(data + b"more")
    assert used == len(data)
    assert value.method.delivery_tag == 9
    assert frame.decode_frame(data[:-1]) == (0, None)
    assert (spec.Basic.Deliver.INDEX, spec.Basic.Ack.INDEX) == (0x003C003C, 0x003C0050)
    assert spec.Basic.Deliver.INDEX.to_bytes(4, "big") == DELIVER
    assert (spec.Basic.Nack.INDEX, spec.Basic.Reject.INDEX) == (0x003C0078, 0x003C005A)
    assert (spec.Basic.Publish.INDEX, spec.Basic.Return.INDEX) == (0x003C0028, 0x003C0032)
    assert issubclass(exceptions.InvalidFrameError, Exception)
    assert issubclass(exceptions.BodyTooLongError, Exception)


def test_09_output_goes_through_output_marshaled_frames_and_is_counted(idle: Idle) -> None:
    transport = opened(idle)
    idle._output_marshaled_frames([b"abc", b"de"])
    assert transport.written == [b"abc", b"de"]
    assert (idle.bytes_sent, idle.frames_sent) == (5, 2)
    assert idle.emit_frames(b"xyz", 3)
    assert transport.written[-1] == b"xyz"
    assert (idle.bytes_sent, idle.frames_sent) == (8, 5)


def test_10_init_connection_state_resets_buffer_counters_and_the_fast_path(idle: Idle) -> None:
    idle._frame_buffer = b"rest"
    idle.bytes_received = 9
    idle.watch_channel(1)
    idle._init_connection_state()
    assert (idle._frame_buffer, idle.bytes_received, idle.watched_channel) == (b"", 0, 0)


def test_11_a_channel_rejects_deliveries_after_cancel_by_itself(idle: Idle) -> None:
    """Why deliveries must not go through pika's channel while consumers are swapped."""
    channel = Channel(idle, 1, lambda _channel: None)
    assert isinstance(channel._cancelled, set)
    assert isinstance(channel._consumers, dict)
    assert "self._cancelled.add(consumer_tag)" in source(Channel.basic_cancel)
    on_deliver = source(Channel._on_deliver)
    assert "consumer_tag in self._cancelled" in on_deliver
    assert "self.basic_reject(" in on_deliver


def test_12_the_transport_says_how_much_is_unsent(idle: Idle) -> None:
    assert arguments(Transport.get_write_buffer_size) == ["self"]
    assert idle.unsent_bytes == 0
    opened(idle).write(b"12345")
    assert idle.unsent_bytes == 5


def test_a_closed_connection_takes_no_raw_frames(idle: Idle) -> None:
    assert not idle.emit_frames(b"ack", 1)
    transport = opened(idle)
    idle._set_connection_state(idle.CONNECTION_CLOSING)
    assert not idle.emit_frames(b"ack", 1)
    assert transport.written == []


def test_the_consuming_connection_refuses_to_publish(idle: Idle) -> None:
    transport = opened(idle)
    content = (pika.BasicProperties(), b"body")
    with pytest.raises(PublishRefused):
        idle._send_method(1, spec.Basic.Publish(exchange="", routing_key="q"), content)
    with pytest.raises(PublishRefused):
        idle._send_message(1, spec.Basic.Publish(exchange="", routing_key="q"), content)
    assert transport.written == []
    assert "self._send_method(" in source(Channel.basic_publish)
    assert "self.connection._send_method(" in source(Channel._send_method)
    idle._send_method(1, spec.Basic.Qos(prefetch_count=1))
    assert transport.written
    assert PublishConnection.may_publish


def test_deliveries_keep_the_byte_count_true(idle: Idle) -> None:
    opened(idle)
    seen: list[tuple[int, bytes]] = []
    idle.watch_channel(1, lambda tag, batch: seen.extend((item[0], item[3]) for item in batch))
    stream = b"".join(
        [
            frame.Method(1, spec.Basic.Deliver("t", 1, False, "", "q")).marshal(),
            frame.Header(1, 3, pika.BasicProperties()).marshal(),
            frame.Body(1, b"abc").marshal(),
            frame.Heartbeat().marshal(),
        ]
    )
    idle._on_data_available(stream[:50])
    idle._on_data_available(stream[50:])
    assert seen == [(1, b"abc")]
    assert idle.bytes_received == len(stream)
    assert idle.frames_received == 4
    assert idle._frame_buffer == b""


class TestGuard:
    """Our callbacks below pika: what they raise never reaches it."""

    STREAM = b"".join(
        [
            frame.Method(1, spec.Basic.Deliver("t", 1, False, "", "q")).marshal(),
            frame.Header(1, 3, pika.BasicProperties()).marshal(),
            frame.Body(1, b"abc").marshal(),
        ]
    )

    def test_a_callback_that_raises_drops_the_connection_with_one_traceback(
        self, idle: Idle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        dropped: list[str] = []
        monkeypatch.setattr(idle, "abandon", dropped.append)
        monkeypatch.setattr("turbo.amqp.fast_connection._unexpected_errors", 0)
        opened(idle)

        def surprise(_tag: bytes, _batch: object) -> None:
            raise KeyError("x")

        for _ in range(5):
            idle.watch_channel(1, surprise)
            idle._on_data_available(self.STREAM)
        assert dropped == ["unexpected KeyError: 'x'"] * 5
        assert len(caplog.records) == 3, "at powers of two"
        assert all(record.exc_info for record in caplog.records)

    def test_what_is_no_amqp_is_pikas_to_close_over(self, idle: Idle) -> None:
        with pytest.raises(exceptions.AMQPError):
            idle.guarded(idle._take_frame, b"nonsense")

    def test_pika_reads_and_loses_through_it(self) -> None:
        shim = source(base_connection._StreamingProtocolShim.__init__)
        assert "self.connection_lost = conn._proto_connection_lost" in shim
        assert "self.guarded(" in source(FastConnection._on_data_available)
        assert "self.guarded(" in source(FastConnection._proto_connection_lost)
