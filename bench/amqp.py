"""A small blocking AMQP 0-9-1 client over a plain socket: declare, publish with confirms, look, consume.

It fills queues with messages whose header and body bytes were captured from a real producer, so it passes
both through unchanged. It is independent of every library under test.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Self, TypeAlias

_METHOD, _HEADER, _BODY = 1, 2, 3
_FRAME_END = b"\xce"
_FRAME_MAX = 131072
_PREFIX = struct.Struct(">BHI")
_IDS = struct.Struct(">HH")

START, START_OK, TUNE, TUNE_OK = (10, 10), (10, 11), (10, 30), (10, 31)
OPEN, OPEN_OK, CLOSE, CLOSE_OK = (10, 40), (10, 41), (10, 50), (10, 51)
CHANNEL_OPEN, CHANNEL_OPEN_OK, CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
DECLARE, DECLARE_OK, DELETE, DELETE_OK = (50, 10), (50, 11), (50, 40), (50, 41)
QOS, QOS_OK, CONSUME, CONSUME_OK = (60, 10), (60, 11), (60, 20), (60, 21)
CANCEL, CANCEL_OK = (60, 30), (60, 31)
PUBLISH, DELIVER, ACK = (60, 40), (60, 60), (60, 80)
CONFIRM_SELECT, CONFIRM_SELECT_OK = (85, 10), (85, 11)

Table: TypeAlias = Mapping[str, str | int | bool]


class WireError(RuntimeError):
    """The broker refused something, or answered what it should not."""


def short(text: str) -> bytes:
    """An AMQP short string."""
    raw = text.encode()
    return bytes([len(raw)]) + raw


def table(values: Table) -> bytes:
    """An AMQP field table of strings, integers and booleans."""
    parts = []
    for name, value in values.items():
        if isinstance(value, bool):
            encoded = b"t" + bytes([value])
        elif isinstance(value, int):
            encoded = b"I" + struct.pack(">i", value)
        else:
            raw = value.encode()
            encoded = b"S" + struct.pack(">I", len(raw)) + raw
        parts.append(short(name) + encoded)
    joined = b"".join(parts)
    return struct.pack(">I", len(joined)) + joined


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return _PREFIX.pack(kind, channel, len(payload)) + payload + _FRAME_END


def method(ids: tuple[int, int], arguments: bytes = b"", channel: int = 1) -> bytes:
    """A method frame."""
    return frame(_METHOD, channel, _IDS.pack(*ids) + arguments)


def content(header: bytes, body: bytes) -> bytes:
    """The header frame and the body frames of one message; ``header`` is the header frame's payload."""
    room = _FRAME_MAX - 8
    bodies = [frame(_BODY, 1, body[start : start + room]) for start in range(0, len(body), room)]
    return frame(_HEADER, 1, header) + b"".join(bodies)


class Wire:
    """One connection with one channel. Not thread-safe; after a WireError only ``close`` is of use."""

    def __init__(self, port: int, *, timeout: float = 60) -> None:
        """Connect to 127.0.0.1:``port`` as guest, virtual host "/". ``timeout`` is in seconds, per wait."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._confirming = False
        self._published = 0
        self._pending: dict[int, None] = {}
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._expect(START)
        secret = b"\x00guest\x00guest"
        self._send(START_OK, table({}) + short("PLAIN") + struct.pack(">I", len(secret)) + secret + short("en_US"), 0)
        self._expect(TUNE)
        # no heartbeats: a bench leaves its connections alone for longer than any of them
        self._send(TUNE_OK, struct.pack(">HIH", 2047, _FRAME_MAX, 0), 0)
        self._send(OPEN, short("/") + b"\x00\x00", 0)
        self._expect(OPEN_OK)
        self._send(CHANNEL_OPEN, b"\x00")
        self._expect(CHANNEL_OPEN_OK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say good-bye if the broker still listens, and close."""
        try:
            self._send(CLOSE, struct.pack(">H", 200) + short("") + b"\x00" * 4, 0)
            self._expect(CLOSE_OK)
        except (OSError, WireError):
            pass  # the connection is thrown away either way
        self.socket.close()

    # -- queues -------------------------------------------------------------------------------------------

    def declare(
        self, queue: str, arguments: Table | None = None, *, durable: bool = True, passive: bool = False
    ) -> tuple[int, int]:
        """Declare (or only look at) a queue: how many messages are ready, and how many consumers it has."""
        flags = passive | durable << 1
        self._send(DECLARE, b"\x00\x00" + short(queue) + bytes([flags]) + table(arguments or {}))
        answer = self._expect(DECLARE_OK)
        messages, consumers = struct.unpack_from(">II", answer, 1 + answer[0])
        return messages, consumers

    def depth(self, queue: str) -> int:
        """How many messages are ready in ``queue``."""
        return self.declare(queue, passive=True)[0]

    def consumers(self, queue: str) -> int:
        """How many consumers ``queue`` has."""
        return self.declare(queue, passive=True)[1]

    def delete(self, queue: str) -> None:
        """Delete ``queue`` with what it holds; nothing if there is none."""
        self._send(DELETE, b"\x00\x00" + short(queue) + b"\x00")
        self._expect(DELETE_OK)

    # -- messages -----------------------------------------------------------------------------------------

    def take(self, queue: str) -> tuple[bytes, bytes] | None:
        """Consume one message that was published: its content header's payload and its body; None if none comes.

        It is consumed, as a worker consumes, and not fetched: a quorum queue sorts the header of a message that is
        fetched and adds `x-delivery-count` (RabbitMQ 3.10).
        """
        self._send(CONSUME, b"\x00\x00" + short(queue) + short(queue) + b"\x02" + table({}))
        self._expect(CONSUME_OK)
        try:
            ids, _ = self._method()
        except TimeoutError:
            return None
        if ids != DELIVER:
            raise WireError(f"basic.consume was answered with {ids}")
        _, header = self._frame()
        (size,) = struct.unpack_from(">Q", header, 4)
        body = bytearray()
        while len(body) < size:
            body += self._frame()[1]
        self._send(CANCEL, short(queue) + b"\x00")
        self._expect(CANCEL_OK)
        return header, bytes(body)

    def publish(self, queue: str, messages: Iterable[tuple[bytes, bytes]], *, window: int = 1000) -> int:
        """Publish to ``queue`` by the default exchange and wait for every confirm; how many there were."""
        if not self._confirming:
            self._send(CONFIRM_SELECT, b"\x00")
            self._expect(CONFIRM_SELECT_OK)
            self._confirming = True
        before = self._published
        start = method(PUBLISH, b"\x00\x00" + short("") + short(queue) + b"\x00")
        batch: list[bytes] = []
        size = 0
        for header, body in messages:
            self._published += 1
            self._pending[self._published] = None
            batch.append(start + content(header, body))
            size += len(batch[-1])
            if len(batch) >= 64 or size > 1 << 20:
                self.socket.sendall(b"".join(batch))
                batch.clear()
                size = 0
                while len(self._pending) > window:
                    self._confirm()
        self.socket.sendall(b"".join(batch))
        while self._pending:
            self._confirm()
        return self._published - before

    def publish_now(self, queue: str, header: bytes, body: bytes) -> None:
        """Publish one message without confirms; do not mix with ``publish`` on one connection."""
        self.socket.sendall(method(PUBLISH, b"\x00\x00" + short("") + short(queue) + b"\x00") + content(header, body))

    def consume(self, queue: str, prefetch: int) -> bytes:
        """Start to consume ``queue`` with acknowledgements; bytes read beyond the answer."""
        self._send(QOS, struct.pack(">IHB", 0, prefetch, 0))
        self._expect(QOS_OK)
        self._send(CONSUME, b"\x00\x00" + short(queue) + short("") + b"\x00" + table({}))
        self._expect(CONSUME_OK)
        return bytes(self._buffer)

    # -- inside -------------------------------------------------------------------------------------------

    def _send(self, ids: tuple[int, int], arguments: bytes, channel: int = 1) -> None:
        self.socket.sendall(method(ids, arguments, channel))

    def _frame(self) -> tuple[int, bytes]:
        while True:
            if len(self._buffer) >= 7:
                kind, _, size = _PREFIX.unpack_from(self._buffer)
                if len(self._buffer) >= size + 8:
                    payload = bytes(self._buffer[7 : 7 + size])
                    del self._buffer[: size + 8]
                    return kind, payload
            chunk = self.socket.recv(1 << 18)
            if not chunk:
                raise WireError("the broker closed the connection")
            self._buffer += chunk

    def _method(self) -> tuple[tuple[int, int], bytes]:
        while True:
            kind, payload = self._frame()
            if kind != _METHOD:
                continue
            ids = _IDS.unpack_from(payload)
            if ids in (CHANNEL_CLOSE, CLOSE):
                (code,) = struct.unpack_from(">H", payload, 4)
                raise WireError(f"the broker refused: {code} {payload[7 : 7 + payload[6]].decode()}")
            return ids, payload[4:]

    def _expect(self, wanted: tuple[int, int]) -> bytes:
        ids, arguments = self._method()
        if ids != wanted:
            raise WireError(f"expected {wanted}, got {ids}")
        return arguments

    def _confirm(self) -> None:
        ids, arguments = self._method()
        if ids != ACK:
            raise WireError(f"a publish was answered with {ids}")
        tag, multiple = struct.unpack_from(">QB", arguments)
        if not multiple:
            del self._pending[tag]
            return
        while self._pending and (first := next(iter(self._pending))) <= tag:
            del self._pending[first]
