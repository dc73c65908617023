"""One connection to Redis on the master's loop: sends bytes and parses replies.

Used by ``redis.store``, which owns the writes. All state of a connection is in this object and is discarded with it. It
never repeats a write and never blocks the loop; the loop resolves names in a thread.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from turbo.backends.redis.wire import handshake
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from turbo.backends.url import RedisAddress

#: Unsent bytes in the transport above which the store stops writing.
_WRITE_HIGH_WATER = 1024 * 1024

_NOTHING = object()


class RedisConnection(asyncio.Protocol):
    """A connection to Redis.

    ``connect`` logs in, selects the database and loads the script.
    """

    def __init__(self, on_replies: Callable[[list[object]], None], on_writable: Callable[[], None]) -> None:
        # hiredis belongs to the "redis" extra; clients and rpc users do not need it
        import hiredis

        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self.reply_error: type[Exception] = hiredis.ReplyError
        self._protocol_error: type[Exception] = hiredis.ProtocolError
        self._on_replies = on_replies
        self._on_writable = on_writable
        self._transport: asyncio.Transport | None = None
        self._asked: asyncio.Future[list[object]] | None = None
        self._answers: list[object] = []
        self._wanted = 0
        #: False while the transport holds more than ``_WRITE_HIGH_WATER`` bytes.
        self.writable = True
        #: Why the connection ended; None while it is open.
        self.lost: str | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit the transport's buffer, and turn on TCP keep-alive.

        Keep-alive detects a vanished peer.
        """
        # uvloop's transports are not subclasses of asyncio's
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Parse replies and pass them on as one batch."""
        replies = []
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                replies.append(reply)
        except self._protocol_error as error:
            self.abort(f"not the Redis protocol: {error}")
        if not replies:
            return
        if self._asked is None:
            self._on_replies(replies)
            return
        self._answers += replies
        if len(self._answers) >= self._wanted and not self._asked.done():
            self._asked.set_result(self._answers)

    def pause_writing(self) -> None:
        """Stop writing: the server reads more slowly than results arrive."""
        self.writable = False

    def resume_writing(self) -> None:
        """Continue writing."""
        self.writable = True
        self._on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the reason, fail a pending login and set ``closed``."""
        if self.lost is None:
            self.lost = "closed by the server" if exc is None else str(exc) or type(exc).__name__
        if self._asked is not None and not self._asked.done():
            # The server sends errors such as "max number of clients reached" instead of a reply and then closes.
            refusals = [str(reply) for reply in self._answers if isinstance(reply, self.reply_error)]
            self.lost = refusals[-1] if refusals else self.lost
            self._asked.set_exception(OperationalError(self.lost))
        if not self.closed.done():
            self.closed.set_result(None)

    async def _ask(self, commands: list[bytes]) -> list[object]:
        """Send commands and return their replies. Used only before the first write."""
        assert self._transport is not None
        self._wanted = len(commands)
        self._asked = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join(commands))
        try:
            return await self._asked
        finally:
            self._asked = None

    async def login(self, address: RedisAddress) -> None:
        """Log in and load the script.

        Raises ``OperationalError`` with the server's error.
        """
        commands = handshake(address.username, address.password, address.db, address.client_name)
        for reply in await self._ask(commands):
            if isinstance(reply, self.reply_error):
                raise OperationalError(f"Redis refused the login or the script: {reply}")

    def write(self, data: bytes) -> None:
        """Pass bytes to the transport, which never blocks.

        Does nothing on a closed connection.
        """
        if self._transport is not None and self.lost is None:
            self._transport.write(data)

    def abort(self, reason: str) -> None:
        """Close at once.

        Unsent bytes are discarded, so that they cannot arrive after their repetition.
        """
        if self.lost is None:
            self.lost = reason
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def connect(
    address: RedisAddress,
    tls: ssl.SSLContext | None,
    on_replies: Callable[[list[object]], None],
    on_writable: Callable[[], None],
    timeout: float,
) -> RedisConnection:
    """Open a connection and log in within ``timeout`` seconds.

    Raises ``OperationalError``, ``OSError`` or ``TimeoutError`` after it has closed what it opened.
    """
    connection = RedisConnection(on_replies, on_writable)
    try:
        async with asyncio.timeout(timeout):
            await _open(address, tls, connection)
            await connection.login(address)
    except BaseException:
        connection.abort("login did not finish")
        raise
    return connection


async def _open(address: RedisAddress, tls: ssl.SSLContext | None, connection: RedisConnection) -> None:
    loop = asyncio.get_running_loop()
    if address.path is not None:
        await loop.create_unix_connection(lambda: connection, address.path)
    else:
        await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
