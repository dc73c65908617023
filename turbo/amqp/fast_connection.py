"""pika's asyncio connection with a fast path for deliveries and joined writes.

Runs in the master's loop between the socket and ``amqp.consume.session``. Of the watched channel, Deliver and its
content are only cut out of the stream (``frame_splitter``); pika decodes and processes every other frame. It must never
call user code or block.

It uses parts of pika that are not public; tests/unit/amqp/test_pika_contract.py pins each of them by name.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Self

import pika
from pika import frame as pika_frame
from pika.adapters.asyncio_connection import AsyncioConnection

from turbo.amqp import plain_socket
from turbo.amqp.connect_errors import ConnectFailed, reason_of
from turbo.amqp.frame_splitter import FrameSplitter, RawDelivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.publish.answers import AnswerReader

logger = logging.getLogger("turbo.amqp.connection")

#: Bytes of one recv. Compared with pika's 4096, small messages gain nothing and a 64 MB body arrives in half the time.
RECV_BYTES = 128 * 1024
#: Most bytes to read before other callbacks of the loop run, over TLS; a plain connection reads once.
CONSUME_BYTES = 256 * 1024
#: Seconds between two checks whether the broker still sends.
SILENCE_TICK = 2.5
#: Seconds after which a socket that cannot be written is given up.
_UNWRITABLE = 1.0
#: A level above all that are used.
_SILENT = logging.CRITICAL + 10


class PublishRefused(RuntimeError):
    """Code tried to publish over the connection that consumes.

    A broker in a memory or disk alarm stops reading from every connection that has published, so acknowledgements on it
    would stall. Measured: one publish is enough. Publish through ``amqp.publish.publisher``.
    """


class FastConnection(AsyncioConnection):  # type: ignore[misc, unused-ignore]
    """One connection to the broker.

    Open it with :meth:`open`; ``lost`` resolves to the reason when it is gone.
    """

    #: Whether content may be sent.
    may_publish = False
    #: pika's attribute: the received part of an incomplete frame.
    _frame_buffer: bytes

    def __init__(self, parameters: pika.ConnectionParameters, loop: asyncio.AbstractEventLoop) -> None:
        # Before pika's constructor, which calls _init_connection_state and starts to connect.
        self._on_batch: Callable[[bytes, list[RawDelivery]], None] = _no_batch
        self._splitter = FrameSplitter(self._take_batch, self._take_frame)
        self._loop = loop
        #: Whether the socket is used without TLS.
        self._plain = False
        self._opened_or_failed: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._silence_timer: asyncio.TimerHandle | None = None
        self._silent_ticks = 0
        self._heard = 0
        super().__init__(
            parameters,
            on_open_callback=self._when_open,
            on_open_error_callback=self._when_open_failed,
            on_close_callback=self._when_closed,
            custom_ioloop=loop,
        )

    @classmethod
    async def open(cls, parameters: pika.ConnectionParameters) -> Self:
        """Connect and complete the handshake.

        Raises ``ConnectFailed`` with the reason. If it is cancelled, the connection is closed.
        """
        _silence_pika()
        connection = cls(parameters, asyncio.get_running_loop())
        try:
            await connection._opened_or_failed
        except asyncio.CancelledError:
            connection.abandon("the attempt was cancelled")
            raise
        return connection

    # -- opening and losing

    def _when_open(self, _connection: object) -> None:
        if self._opened_or_failed.done():
            self.abandon("opened too late")
            return
        self._watch_silence()
        self._opened_or_failed.set_result(None)

    def _on_connection_workflow_done(self, conn_or_exc: Any) -> None:
        """Work around pika's error when a handshake is abandoned.

        It passes a class instead of an error, and logs that.
        """
        super()._on_connection_workflow_done(conn_or_exc() if isinstance(conn_or_exc, type) else conn_or_exc)

    def _when_open_failed(self, _connection: object, error: BaseException | str) -> None:
        reason = reason_of(error)
        if not self.lost.done():
            self.lost.set_result(reason)
        if not self._opened_or_failed.done():
            self._opened_or_failed.set_exception(ConnectFailed(reason))

    def _when_closed(self, _connection: object, error: BaseException) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
        if not self.lost.done():
            self.lost.set_result(reason_of(error))

    def abandon(self, reason: str) -> None:
        """Drop the connection now, whatever its state, without waiting for the broker.

        Idempotent.
        """
        if self.is_closed:
            return
        transport = self._transport
        if self._opened and transport is not None:
            self._terminate_stream(pika.exceptions.AMQPConnectionError(reason))
        elif not self.is_closing:
            self.close(320, reason)

    async def close_within(self, seconds: float) -> None:
        """Close with Connection.Close, then drop the connection after ``seconds``.

        Idempotent.
        """
        if self.is_open:
            self.close()
        if not self.lost.done() and seconds > 0:
            await asyncio.wait([self.lost], timeout=seconds)
        if not self.lost.done():
            self.abandon("no answer to Connection.Close")
            await asyncio.wait([self.lost], timeout=1.0)

    def _watch_silence(self) -> None:
        """Drop the connection to a broker that is silent for two heartbeats.

        pika alone may need 2 x (heartbeat + 5 s). Ticks are counted instead of seconds, so that the time in which
        this process was suspended does not count.
        """
        heartbeat = self.params.heartbeat
        if not isinstance(heartbeat, int) or heartbeat <= 0:
            return
        if self.bytes_received != self._heard:
            self._heard = self.bytes_received
            self._silent_ticks = 0
        else:
            self._silent_ticks += 1
            if self._silent_ticks * SILENCE_TICK >= 2 * heartbeat:
                self.abandon(f"the broker was silent for {self._silent_ticks * SILENCE_TICK:g} s")
                return
        self._silence_timer = self._loop.call_later(SILENCE_TICK, self._watch_silence)

    @property
    def server_version(self) -> tuple[int, ...]:
        """The broker's version as numbers, ``(4, 0, 5)``; empty when it names none."""
        text = str((self.server_properties or {}).get("version", ""))
        return tuple(int(part) for part in re.findall(r"\d+", text)[:3])

    # -- the way in

    def watch_channel(self, channel: int, on_batch: Callable[[bytes, list[RawDelivery]], None] | None = None) -> None:
        """Take the deliveries of ``channel`` off the stream and pass them to ``on_batch``.

        A channel of 0 stops that.
        """
        self._on_batch = on_batch or _no_batch
        self._splitter.watch(channel)

    @property
    def watched_channel(self) -> int:
        """The channel on the fast path; 0 for none."""
        return self._splitter.channel

    def _init_connection_state(self) -> None:
        super()._init_connection_state()
        self._splitter.restart()

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = RECV_BYTES  # noqa: SLF001 - pika has no setting for it, and reads it through self
        transport._MAX_CONSUME_BYTES = CONSUME_BYTES  # noqa: SLF001
        self._plain = plain_socket.is_plain(transport)
        if self._plain:
            plain_socket.read_once(transport, RECV_BYTES, self._splitter.room, self._filled)
            plain_socket.keep_reading(transport, self._loop)
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        self.guarded(self._feed, data_in)

    def guarded(self, call: Callable[..., None], *arguments: object) -> None:
        """Run a callback from pika; if it raises, drop this connection.

        All of turbo's code that pika calls runs through here: the readers of deliveries, confirms and returned
        messages, and the callbacks for an opened, blocked or closed connection or channel, for answers and for
        cancelled consumers. An exception must not reach pika, which would abort the connection silently or skip later
        callbacks. A callback that raises leaves an inconsistent state behind, so a new connection is needed.
        """
        try:
            call(*arguments)
        except pika.exceptions.AMQPError:
            # The broker sent no AMQP, or another version: pika closes the connection with this as the reason.
            raise
        except Exception as error:  # noqa: BLE001 - a callback may raise anything
            _log_unexpected_error()
            self.abandon(f"unexpected {type(error).__name__}: {error}")

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        self.guarded(super()._proto_connection_lost, error)

    def _feed(self, data_in: bytes) -> None:
        splitter = self._splitter
        if not splitter.busy:
            super()._on_data_available(data_in)
            return
        rest = self._frame_buffer
        data = rest + data_in if rest else data_in
        frames = splitter.fast_frames
        used = splitter.feed(data)
        self._frame_buffer = data[used:] if used else data
        # Without this pika's heartbeat checker kills a healthy, busy connection.
        self.bytes_received += used
        self.frames_received += splitter.fast_frames - frames

    def _filled(self, count: int) -> None:
        self._splitter.filled(count)
        self.bytes_received += count

    def _take_batch(self, consumer_tag: bytes, batch: list[RawDelivery]) -> None:
        self._on_batch(consumer_tag, batch)

    def _take_frame(self, data: bytes) -> None:
        used, value = pika_frame.decode_frame(data)
        if value is None or used != len(data):
            raise pika.exceptions.InvalidFrameError("a complete frame cannot be decoded")
        self._process_frame(value)

    # -- the way out

    def emit_frames(self, data: bytes, count: int) -> bool:
        """Send ``count`` frames that were joined to ``data``.

        A plain connection sends them at once. Returns False if the connection is not open.
        """
        if self._transport is None or not self.is_open:
            return False
        self.bytes_sent += len(data)
        self.frames_sent += count
        if self._plain:
            data = plain_socket.send_now(self._transport, data)
        if data:
            self._adapter_emit_data(data)
        return True

    def _adapter_emit_data(self, data: bytes) -> None:
        try:
            super()._adapter_emit_data(data)
        except RuntimeError as error:
            # uvloop refuses to watch a socket that has an error. The next read finds the error and closes the
            # connection with it as the reason; this is for the case that it does not.
            self._loop.call_later(_UNWRITABLE, self.abandon, f"it cannot be written: {error}")

    @property
    def unsent_bytes(self) -> int:
        """The bytes that wait to be written to the socket."""
        transport = self._transport
        return 0 if transport is None else int(transport.get_write_buffer_size())

    def _send_method(self, channel_number: int, method: Any, content: Any = None) -> None:
        if content and not self.may_publish:
            raise PublishRefused("this connection only consumes; publish through the publisher")
        super()._send_method(channel_number, method, content)

    def _send_message(self, channel_number: int, method_frame: Any, content: Any) -> None:
        if not self.may_publish:
            raise PublishRefused("this connection only consumes; publish through the publisher")
        super()._send_message(channel_number, method_frame, content)


class PublishConnection(FastConnection):
    """The publisher's connection: it may publish, and must never consume."""

    may_publish = True

    def __init__(self, parameters: pika.ConnectionParameters, loop: asyncio.AbstractEventLoop) -> None:
        self._answers: AnswerReader | None = None
        self._on_blocked: Callable[[bool, str], None] | None = None
        #: The broker's reason while it blocks this connection.
        self._blocked_by: str | None = None
        super().__init__(parameters, loop)
        self.add_on_connection_blocked_callback(lambda _connection, frame: self._set_blocked(frame.method.reason))
        self.add_on_connection_unblocked_callback(lambda _connection, _frame: self._set_blocked(None))

    def watch_answers(self, channel: int, reader: AnswerReader | None) -> None:
        """Pass confirms and returned messages of ``channel`` to ``reader``.

        None stops that.
        """
        self._answers = reader
        self.watch_channel(channel if reader is not None else 0)

    def _take_frame(self, data: bytes) -> None:
        if self._answers is not None and self._answers.take(data):
            self.frames_received += 1
        else:
            super()._take_frame(data)

    def watch_blocking(self, on_change: Callable[[bool, str], None] | None) -> None:
        """Call ``on_change(blocked, reason)`` when the broker stops or resumes reading.

        Calls it at once if the broker has already stopped.
        """
        self._on_blocked = on_change
        if on_change is not None and self._blocked_by is not None:
            on_change(True, self._blocked_by)

    def _set_blocked(self, reason: str | None) -> None:
        self._blocked_by = reason
        if self._on_blocked is not None:
            self._on_blocked(reason is not None, reason or "")


_unexpected_errors = 0


def _log_unexpected_error() -> None:
    """Log the traceback of an unexpected error, but only at powers of two."""
    global _unexpected_errors
    _unexpected_errors += 1
    if _unexpected_errors & (_unexpected_errors - 1) == 0:
        logger.critical("A callback of the broker connection raised (%d so far)", _unexpected_errors, exc_info=True)


def _no_batch(consumer_tag: bytes, batch: list[RawDelivery]) -> None:
    logger.error("Dropped %d deliveries for consumer %r: the channel is not watched", len(batch), consumer_tag)


def _silence_pika() -> None:
    """Silence pika's loggers, because ``amqp.outages`` reports every failure.

    pika logs up to seven errors per attempt, with tracebacks. They appear if its logger is set to DEBUG or INFO.
    """
    pika_logger = logging.getLogger("pika")
    if pika_logger.level in (logging.NOTSET, logging.WARNING, logging.ERROR, logging.CRITICAL):
        pika_logger.setLevel(_SILENT)
