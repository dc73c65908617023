"""Reads and writes the socket of a plain connection by one system call each.

Used in the master by ``amqp.fast_connection``. pika reads a socket until it is empty, so half of its reads find
nothing, and writes only when the loop reports that the socket takes data, which costs two changes to epoll and one turn
of the loop. Both cost more than a small message. TLS has a buffer of its own, so pika keeps its ways there.
"""

from __future__ import annotations

import functools
from typing import Any

from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport


def is_plain(transport: object) -> bool:
    """Whether this is pika's transport of a connection without TLS."""
    return isinstance(transport, _AsyncPlaintextTransport)


def read_once(transport: Any, most: int) -> None:
    """Make a plain transport read its socket once whenever it is readable.

    ``most`` is the limit in bytes. The loop reports a socket with more bytes again at its next turn, so none are left
    behind.
    """
    transport._consume = functools.partial(_consume_once, transport, most)  # noqa: SLF001 - pika has no setting for it


def _consume_once(transport: Any, most: int) -> None:
    data = transport._sigint_safe_recv(transport._sock, most)  # noqa: SLF001 - it takes the place of pika's own method
    if not data:
        raise transport.RxEndOfFile
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
