"""One client's connection to the embedded broker: handshake, heartbeats, channels, faults.

An asyncio protocol on the broker's loop. Bytes that arrive become frames, frames go to channels; what the
channels write is sent once, at the end of the turn of the loop. It must never let a client's mistake raise
out of it: every fault ends a channel or this connection, no other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from pika import spec

from turbo.embedded_broker import login
from turbo.embedded_broker.channels import Channel
from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.methods import METHODS
from turbo.embedded_broker.wire import (
    BEAT,
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    PROTOCOL_HEADER,
    Frame,
    FrameSplitter,
    decode_arguments,
    encode_method,
    method_index,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.embedded_broker.vhost import VirtualHost

logger = logging.getLogger(__name__)

CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS = 2047, 131072, 60
_HANDSHAKE_SECONDS = 10.0
#: Bytes waiting to be sent beyond which consumers of this connection get nothing more for now.
_OUTPUT_LIMIT = 1024 * 1024


class Host(Protocol):
    """The broker as a connection sees it."""

    credentials: tuple[str, str]

    def vhost(self, name: str) -> VirtualHost:
        """The virtual host of that name."""

    def joined(self, connection: Connection) -> None:
        """A connection began."""

    def left(self, connection: Connection) -> None:
        """A connection ended."""


class Connection(asyncio.Protocol):
    """The server's end of one connection; `channels.Wire` of its channels."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.frame_max = FRAME_MAX
        self.cancel_notify = False
        self.closed: asyncio.Future[None] = loop.create_future()
        self._host = host
        self._loop = loop
        self._splitter = FrameSplitter()
        self._channels: dict[int, Channel] = {}
        self._vhost: VirtualHost | None = None
        self._client: login.Client | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._paused = False
        self._starved = False  # a consumer was refused for want of room
        self._greeted: bytes | None = b""  # of the protocol header, what came so far; None: complete
        self._closing = False
        self._heartbeat = 0.0
        self._heard_at = self._wrote_at = loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(_HANDSHAKE_SECONDS, self._handshake_over)

    # -- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_OUTPUT_LIMIT)
        self._host.joined(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop: frames, or the greeting before them."""
        self._heard_at = self._loop.time()
        if self._greeted is not None:
            data = self._greet(self._greeted + data)
        try:
            for kind, number, payload in self._splitter.feed(data):
                self._take((kind, number, payload))
        except AmqpFault as fault:
            self._close_for(fault, 0)
        for channel in self._channels.values():
            channel.flush_confirms()

    def pause_writing(self) -> None:
        """Called by the transport: the client reads too slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by the transport: there is room again."""
        self._paused = False
        self._feed_consumers()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: everything of this connection goes back or away."""
        if self._timer is not None:
            self._timer.cancel()
        self._drop_channels()
        if not self.closed.done():
            self.closed.set_result(None)
        self._host.left(self)

    # -- for the channels -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send at the end of this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)

    def has_room(self) -> bool:
        """False while too much waits to be sent; the consumers are then asked again later."""
        if self._paused or self._closing or self._out_bytes >= _OUTPUT_LIMIT:
            self._starved = True
            return False
        return True

    def shut(self, text: str) -> None:
        """Tell the client that the broker ends (320) and wait for no more than its answer."""
        if self._vhost is None or self._closing:
            self._transport.close()
        else:
            self._close_for(AmqpFault(320, text), 0)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    # -- the greeting ---------------------------------------------------------------------------------

    def _greet(self, data: bytes) -> bytes:
        """Check the protocol header and send connection.start; what came after the header."""
        if len(data) < len(PROTOCOL_HEADER) and PROTOCOL_HEADER.startswith(data):
            self._greeted = data
            return b""
        self._greeted = None
        if not data.startswith(PROTOCOL_HEADER):
            self._transport.write(PROTOCOL_HEADER)
            self._transport.close()
            self._closing = True
            return b""
        self.write(encode_method(0, login.start()))
        return data[len(PROTOCOL_HEADER) :]

    def _handshake_over(self) -> None:
        if self._vhost is None:
            self.abort()

    def _start_ok(self, payload: bytes) -> None:
        client = login.read_start_ok(payload)
        self.cancel_notify = client.can("consumer_cancel_notify")
        if client.credentials != self._host.credentials:
            fault = AmqpFault(403, f"Login was refused using authentication mechanism {client.mechanism}.")
            if client.can("authentication_failure_close"):
                self._close_for(fault, spec.Connection.StartOk.INDEX)
            else:
                self._transport.close()
            return
        self._client = client
        self.write(encode_method(0, spec.Connection.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS)))

    def _tune_ok(self, payload: bytes) -> None:
        _channel_max, frame_max, heartbeat = decode_arguments("HIH", payload)
        if frame_max and not 4096 <= frame_max <= FRAME_MAX:
            raise AmqpFault(530, f"negotiated frame_max = {frame_max} is out of range")
        self.frame_max = frame_max or FRAME_MAX
        self._splitter.limit = self.frame_max
        self._heartbeat = float(heartbeat)

    def _open(self, payload: bytes) -> None:
        (name,) = decode_arguments("s", payload)
        self._vhost = self._host.vhost(name)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heartbeat:
            self._timer = self._loop.call_later(self._heartbeat / 2, self._beat)
        self.write(encode_method(0, spec.Connection.OpenOk()))

    # -- frames ---------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        kind, number, payload = frame
        if self._closing:
            if kind == METHOD and method_index(payload) in (
                spec.Connection.CloseOk.INDEX,
                spec.Connection.Close.INDEX,
            ):
                self._transport.close()
        elif kind == BEAT:
            return
        elif number == 0:
            self._take_own(kind, payload)
        else:
            self._take_channels(kind, number, payload)

    def _take_own(self, kind: int, payload: bytes) -> None:
        """A frame on channel 0."""
        if kind != METHOD:
            raise AmqpFault(505, "content on channel 0")
        index = method_index(payload)
        expected: dict[int, Callable[[bytes], None]]
        if self._vhost is not None:
            expected = {spec.Connection.Close.INDEX: self._close_asked}
        elif self._client is not None:
            expected = {
                spec.Connection.TuneOk.INDEX: self._tune_ok,
                spec.Connection.Open.INDEX: self._open,
                spec.Connection.Close.INDEX: self._close_asked,
            }
        else:
            expected = {spec.Connection.StartOk.INDEX: self._start_ok}
        handler = expected.get(index)
        if handler is None:
            raise AmqpFault(503, f"method {index:#010x} is not expected on channel 0 now")
        handler(payload)

    def _close_asked(self, payload: bytes) -> None:
        self._drop_channels()
        self.write(encode_method(0, spec.Connection.CloseOk()))
        self._flush()
        self._closing = True
        self._transport.close()

    def _take_channels(self, kind: int, number: int, payload: bytes) -> None:
        if self._vhost is None:
            raise AmqpFault(504, f"channel {number} before the connection is open")
        channel = self._channels.get(number)
        index = method_index(payload) if kind == METHOD else spec.Basic.Publish.INDEX
        if channel is None:
            self._open_channel(number, kind, index)
            return
        if channel.closing:
            if index in (spec.Channel.CloseOk.INDEX, spec.Channel.Close.INDEX):
                del self._channels[number]
            if index == spec.Channel.Close.INDEX:
                self.write(encode_method(number, spec.Channel.CloseOk()))
            return
        try:
            if kind == METHOD:
                self._call(channel, index, payload)
            elif kind == HEADER:
                channel.take_header(payload)
            elif kind == BODY:
                channel.take_body(payload)
            else:
                raise AmqpFault(501, f"unknown frame type {kind}")
        except AmqpFault as fault:
            if not fault.closes_channel:
                self._close_for(fault, index)
                return
            channel.flush_confirms()
            channel.close()
            channel.send(spec.Channel.Close(fault.code, _fit(fault.text), index >> 16, index & 0xFFFF))

    def _open_channel(self, number: int, kind: int, index: int) -> None:
        if kind != METHOD or index != spec.Channel.Open.INDEX:
            raise AmqpFault(504, f"expected 'channel.open' on channel {number}")
        if number > CHANNEL_MAX:
            raise AmqpFault(504, f"channel {number} is above the agreed {CHANNEL_MAX}")
        assert self._vhost is not None
        self._channels[number] = Channel(number, self, self._vhost)
        self.write(encode_method(number, spec.Channel.OpenOk()))

    def _call(self, channel: Channel, index: int, payload: bytes) -> None:
        if channel.expects_content:
            raise AmqpFault(505, "a method where the content of a publish was expected")
        if index == spec.Channel.Close.INDEX:
            channel.flush_confirms()
            channel.close()
            del self._channels[channel.number]
            channel.send(spec.Channel.CloseOk())
            return
        known = METHODS.get(index)
        if known is None:
            raise AmqpFault(503 if index in spec.methods else 540, f"method {index:#010x}")
        layout, handler = known
        arguments: list[Any] = decode_arguments(layout, payload)
        handler(channel, arguments)

    # -- ends -----------------------------------------------------------------------------------------

    def _close_for(self, fault: AmqpFault, index: int) -> None:
        """Send connection.close; the transport is closed at the answer, or soon."""
        if self._closing:
            return
        logger.info("the embedded broker closes a connection: %s", fault.text)
        self._drop_channels()
        self.write(
            encode_method(0, spec.Connection.Close(fault.code, _fit(fault.text), index >> 16, index & 0xFFFF))
        )
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_HANDSHAKE_SECONDS, self.abort)

    def _drop_channels(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.closing = True  # all of them first: none may get what another puts back
        for channel in channels.values():
            channel.close()
        if self._vhost is not None:
            self._vhost.drop_owned_by(self)

    # -- output and heartbeats ------------------------------------------------------------------------

    def _flush(self) -> None:
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        self._wrote_at = self._loop.time()
        if not self._transport.is_closing():
            self._transport.write(data)
        if self._starved and not self._paused:
            self._feed_consumers()

    def _feed_consumers(self) -> None:
        self._starved = False
        queues = {
            id(each.queue): each.queue
            for channel in self._channels.values()
            for each in channel.consumers.values()
        }
        for queue in queues.values():
            queue.dispatch()

    def _beat(self) -> None:
        now = self._loop.time()
        if now - self._heard_at > 2 * self._heartbeat:
            logger.info("the embedded broker drops a connection that missed its heartbeats")
            self.abort()
            return
        if now - self._wrote_at >= self._heartbeat / 2:
            self.write(HEARTBEAT)
        self._timer = self._loop.call_later(self._heartbeat / 2, self._beat)


def _fit(text: str) -> str:
    """A reply text is a short string: at most 255 bytes."""
    return text.encode()[:255].decode(errors="ignore")
