"""Reads and writes the socket of a plain connection by one system call each.

Used in the master by ``amqp.fast_connection``. A large body is read straight to its place. pika reads a socket until it
is empty, so half of its reads find nothing, and writes only when the loop reports that the socket takes data, which
costs two changes to epoll and one turn of the loop. Both cost more than a small message. TLS has a buffer of its own,
so pika keeps its ways there.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Most bytes to read beyond the place of a body: the end of its frame and the head of the next.
_SPARE = 4096


def is_plain(transport: object) -> bool:
    """Whether this is pika's transport of a connection without TLS."""
    return isinstance(transport, _AsyncPlaintextTransport)


def read_once(transport: Any, most: int, room: Callable[[], memoryview | None], filled: Callable[[int], None]) -> None:
    """Make a plain transport read its socket once whenever it is readable.

    ``most`` is the limit in bytes. The loop reports a socket with more bytes again at its next turn, so none are left
    behind; a socket with an error needs :func:`keep_reading`. ``room`` and ``filled`` are those of a ``FrameSplitter``.
    """
    spare = memoryview(bytearray(_SPARE))
    transport._consume = functools.partial(  # noqa: SLF001 - pika has no setting for it
        _consume_once, transport, most, room, filled, spare
    )


def _consume_once(
    transport: Any, most: int, room: Callable[[], memoryview | None], filled: Callable[[int], None], spare: memoryview
) -> None:
    place = room()
    if place is None:
        data = transport._sigint_safe_recv(transport._sock, most)  # noqa: SLF001 - it takes the place of pika's method
        if not data:
            raise transport.RxEndOfFile
    else:
        with place:
            size = len(place)
            count = transport._sock.recvmsg_into((place, spare))[0]  # noqa: SLF001
        if not count:
            raise transport.RxEndOfFile
        filled(min(count, size))
        if count <= size:
            return
        data = bytes(spare[: count - size])
    transport._protocol.data_received(data)  # noqa: SLF001


class _Reader:
    """Called by the loop when a socket is readable; only the loop refers to it."""

    __slots__ = ("__weakref__", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __call__(self) -> None:
        self._transport._on_socket_readable()  # noqa: SLF001 - pika's own reader


def keep_reading(transport: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Read a plain transport until it meets its end or its error.

    uvloop calls the reader of a socket with an error once and then drops it without a word (``UVPoll._fatal_error``).
    Where that one call reads what the broker sent before the error, for example before a reset, nobody would read the
    error. So a reader that was dropped while the transport is in use is put back: each call reads on, and the last one
    raises the error, whereupon pika closes the connection.
    """
    reader = _Reader(transport)
    # The loop holds the only reference, so this runs when the loop drops it. It runs inside the loop's own code: only
    # a callback may be scheduled here.
    weakref.finalize(reader, _dropped, transport, loop).atexit = False
    loop.add_reader(transport._sock.fileno(), reader)  # noqa: SLF001


def _dropped(transport: Any, loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed():
        loop.call_soon(_put_back, transport, loop)


def _put_back(transport: Any, loop: asyncio.AbstractEventLoop) -> None:
    # pika itself removes the reader when it closes the connection.
    if transport._state == transport._STATE_ACTIVE:  # noqa: SLF001
        loop.remove_reader(transport._sock.fileno())  # noqa: SLF001 - uvloop keeps the dead entry
        keep_reading(transport, loop)


def send_now(transport: Any, data: bytes) -> bytes:
    """Send what the socket takes without waiting; return the rest.

    pika has to buffer that. Nothing is sent while pika has something buffered, since that comes first. An error is left
    to pika's own write, which meets it again and closes the connection.
    """
    if transport._tx_buffers or transport._state != transport._STATE_ACTIVE:  # noqa: SLF001
        return data
    try:
        sent = transport._sock.send(data)  # noqa: SLF001
    except OSError:
        return data
    return data[sent:] if sent < len(data) else b""
