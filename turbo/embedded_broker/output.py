"""What one connection of the embedded broker still has to send.

Channels and the connection write frames here during a turn of the loop; they leave in one piece at its end.
Says when consumers must wait because the client reads too slowly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Bytes waiting to be sent beyond which consumers of this connection get nothing more for now.
LIMIT = 1024 * 1024


class Output:
    """Collects and sends; `on_room` is called when consumers that were refused may be asked again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_room: Callable[[], None]) -> None:
        self.wrote_at = loop.time()
        self._loop = loop
        self._on_room = on_room
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._paused = False
        self._refused = False  # a consumer was told to wait
        self._ended = False

    def attach(self, transport: asyncio.Transport) -> None:
        """The connection is made."""
        transport.set_write_buffer_limits(high=LIMIT)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send at the end of this turn of the loop."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._size += len(data)

    def has_room(self) -> bool:
        """False while too much waits; `on_room` follows when that is over."""
        if self._paused or self._ended or self._size >= LIMIT:
            self._refused = True
            return False
        return True

    def flush(self) -> None:
        """Hand everything to the transport."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self.wrote_at = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        self._tell()

    def end(self) -> None:
        """No consumer has room from now on; what is written is still sent."""
        self._ended = True

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resume(self) -> None:
        """The transport's buffer has drained."""
        self._paused = False
        self._tell()

    def _tell(self) -> None:
        if self._refused and not self._paused and not self._ended:
            self._refused = False
            self._on_room()
