"""Reads and writes the socket of a plain connection by one system call each.

Used in the master by ``amqp.fast_connection``. A large body is read straight to its place. pika reads a socket until it
is empty, so half of its reads find nothing, and writes only when the loop reports that the socket takes data, which
costs two changes to epoll and one turn of the loop. Both cost more than a small message. TLS has a buffer of its own,
so pika keeps its ways there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport

if TYPE_CHECKING:
    from collections.abc import Callable

#: Most bytes to read beyond the place of a body: the end of its frame and the head of the next.
_SPARE = 4096


def is_plain(transport: object) -> bool:
    """Whether this is pika's transport of a connection without TLS."""
    return isinstance(transport, _AsyncPlaintextTransport)


def read_once(transport: Any, most: int, room: Callable[[], memoryview | None], filled: Callable[[int], None]) -> None:
    """Make a plain transport read its socket once whenever it is readable.

    ``most`` is the limit in bytes. The loop reports a socket with more bytes again at its next turn, so none are left
    behind. ``room`` and ``filled`` are those of a ``FrameSplitter``.
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
