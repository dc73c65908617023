"""One client's connection: handshake, heartbeats, channels, faults.

An asyncio protocol on the broker's loop. It splits received bytes into frames and passes them to channels; the
channels' output is sent once per loop iteration. It must never let a client's mistake raise out of it: a fault closes a
channel or this connection, and never another one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, cast

from pika import spec

from turbo.embedded_broker import login
from turbo.embedded_broker.channels import Channel
from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.methods import take_frame
from turbo.embedded_broker.output import Output
from turbo.embedded_broker.wire import (
    BEAT,
    HEARTBEAT,
    METHOD,
    PROTOCOL_HEADER,
    Frame,
    FrameSplitter,
    encode_method,
    method_index,
)

if TYPE_CHECKING:
    from turbo.embedded_broker.vhost import VirtualHost


logger = logging.getLogger(__name__)

_HANDSHAKE_SECONDS = 10.0


class Host(Protocol):
    """The broker as a connection sees it."""

    credentials: tuple[str, str]

    def vhost(self, name: str) -> VirtualHost:
        """Return the virtual host of this name."""

    def joined(self, connection: Connection) -> None:
        """Add a new connection."""

    def left(self, connection: Connection) -> None:
        """Remove an ended connection."""


class Connection(asyncio.Protocol):
    """The server's end of one connection; `channels.Wire` of its channels."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.frame_max = login.FRAME_MAX
        self.cancel_notify = False
        self.closed: asyncio.Future[None] = loop.create_future()
        self._host = host
        self._loop = loop
        self._splitter = FrameSplitter()
        self._channels: dict[int, Channel] = {}
        self._vhost: VirtualHost | None = None
        self._handshake = login.Handshake(host.credentials)
        self._output = Output(loop, self._feed_consumers)
        self._closing = False
        self._received_at = loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(_HANDSHAKE_SECONDS, self._handshake_over)

    # -- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._output.attach(self._transport)
        self._host.joined(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with frames, or with the protocol header before them."""
        self._received_at = self._loop.time()
        if self._vhost is None:
            data = self._greet(data)
        try:
            for kind, number, payload in self._splitter.feed(data):
                self._take((kind, number, payload))
        except AmqpFault as fault:
            self._close_for(fault, 0)
        for channel in self._channels.values():
            channel.flush_confirms()

    def pause_writing(self) -> None:
        """Called by the transport when the client reads too slowly."""
        self._output.pause()

    def resume_writing(self) -> None:
        """Called by the transport when there is room again."""
        self._output.resume()

    def connection_lost(self, error: Exception | None) -> None:
        """Requeue this connection's messages, delete its exclusive queues."""
        if self._timer is not None:
            self._timer.cancel()
        self._drop_channels()
        if not self.closed.done():
            self.closed.set_result(None)
        self._host.left(self)

    # -- for the channels -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send at the end of this loop iteration."""
        self._output.write(data)

    def has_room(self) -> bool:
        """Whether more may be written; after False, the consumers are served again later."""
        return self._output.has_room()

    def shut(self, text: str) -> None:
        """Send connection.close with 320.

        The transport is closed at the answer or after a time limit.
        """
        if self._vhost is None or self._closing:
            self._transport.close()
        else:
            self._close_for(AmqpFault(320, text), 0)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    # -- the handshake --------------------------------------------------------------------------------

    def _greet(self, data: bytes) -> bytes:
        greeting = self._handshake.greet(data)
        if greeting is None:
            self._transport.write(PROTOCOL_HEADER)  # names the protocol that is supported
            self._transport.close()
            self._end()
            return b""
        answer, rest = greeting
        if answer:
            self.write(answer)
        return rest

    def _handshake_over(self) -> None:
        if self._vhost is None:
            self.abort()

    def _shake_hands(self, payload: bytes) -> None:
        try:
            answer = self._handshake.take(payload)
        except login.LoginRefused as refused:
            if refused.understands_close:
                self._close_for(refused.fault, spec.Connection.StartOk.INDEX)
            else:
                self._transport.close()
            return
        if answer:
            self.write(answer)
        if self._handshake.vhost is not None:
            self._opened(self._handshake.vhost)

    def _opened(self, vhost: str) -> None:
        self._vhost = self._host.vhost(vhost)
        self.frame_max = self._splitter.limit = self._handshake.frame_max
        self.cancel_notify = self._handshake.client is not None and self._handshake.client.can("consumer_cancel_notify")
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._period, self._beat) if self._handshake.heartbeat else None

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
            self._take_on_channel_zero(kind, payload)
        else:
            self._take_on_channel(kind, number, payload)

    def _take_on_channel_zero(self, kind: int, payload: bytes) -> None:
        """Handle a frame on channel 0."""
        if kind != METHOD:
            raise AmqpFault(505, "unexpected content on channel 0")
        index = method_index(payload)
        if index == spec.Connection.Close.INDEX:
            self._close_on_request()
        elif self._vhost is None:
            self._shake_hands(payload)
        else:
            raise AmqpFault(503, f"method {index:#010x} is not expected on channel 0 now")

    def _close_on_request(self) -> None:
        self._drop_channels()
        self.write(encode_method(0, spec.Connection.CloseOk()))
        self._end()
        self._output.flush()
        self._transport.close()

    def _take_on_channel(self, kind: int, number: int, payload: bytes) -> None:
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
            if index == spec.Channel.Close.INDEX and not channel.expects_content:
                self._close_channel(channel)
            else:
                take_frame(channel, kind, payload)
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
        if number > login.CHANNEL_MAX:
            raise AmqpFault(504, f"channel {number} is above the agreed {login.CHANNEL_MAX}")
        assert self._vhost is not None
        self._channels[number] = Channel(number, self, self._vhost)
        self.write(encode_method(number, spec.Channel.OpenOk()))

    def _close_channel(self, channel: Channel) -> None:
        channel.flush_confirms()
        channel.close()
        del self._channels[channel.number]
        channel.send(spec.Channel.CloseOk())

    # -- ends -----------------------------------------------------------------------------------------

    def _close_for(self, fault: AmqpFault, index: int) -> None:
        """Send connection.close; the transport closes at the answer or soon after."""
        if self._closing:
            return
        logger.info("the embedded broker closes a connection: %s", fault.text)
        self._drop_channels()
        self.write(encode_method(0, spec.Connection.Close(fault.code, _fit(fault.text), index >> 16, index & 0xFFFF)))
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_HANDSHAKE_SECONDS, self.abort)

    def _end(self) -> None:
        """From now on handle only the client's close or close-ok."""
        self._closing = True
        self._output.end()

    def _drop_channels(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.closing = True  # all of them first, so that none gets messages that another requeues
        for channel in channels.values():
            channel.close()
        if self._vhost is not None:
            self._vhost.drop_owned_by(self)

    # -- output and heartbeats ------------------------------------------------------------------------

    def _feed_consumers(self) -> None:
        queues = {
            id(each.queue): each.queue for channel in self._channels.values() for each in channel.consumers.values()
        }
        for queue in queues.values():
            queue.dispatch()

    @property
    def _period(self) -> float:
        """Seconds between two checks of the heartbeats."""
        return self._handshake.heartbeat / 2

    def _beat(self) -> None:
        now = self._loop.time()
        if now - self._received_at > 2 * self._handshake.heartbeat:
            logger.info("the embedded broker drops a connection that missed its heartbeats")
            self.abort()
            return
        if now - self._output.wrote_at >= self._period:
            self.write(HEARTBEAT)
        self._timer = self._loop.call_later(self._period, self._beat)


def _fit(text: str) -> str:
    """Shorten a reply text to 255 bytes, the limit of a short string."""
    return text.encode()[:255].decode(errors="ignore")
