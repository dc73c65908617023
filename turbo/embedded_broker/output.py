"""The output buffer of one connection of the embedded broker.

Channels and the connection write frames into it; it sends them together at the end of the loop iteration. It tells
consumers to wait while the client reads too slowly. It must never block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Bytes of unsent output above which consumers of this connection wait.
LIMIT = 1024 * 1024


class Output:
    """Collects and sends output.

    Calls `on_room` when consumers that had to wait may continue.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_room: Callable[[], None]) -> None:
        self.wrote_at = loop.time()
        self._loop = loop
        self._on_room = on_room
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._paused = False
        self._refused = False  # whether a consumer has to wait
        self._ended = False

    def attach(self, transport: asyncio.Transport) -> None:
        """Set the transport of a new connection."""
        transport.set_write_buffer_limits(high=LIMIT)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send the data at the end of this loop iteration."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._size += len(data)

    def has_room(self) -> bool:
        """Whether more may be written.

        After False, `on_room` is called when there is room.
        """
        if self._paused or self._ended or self._size >= LIMIT:
            self._refused = True
            return False
        return True

    def flush(self) -> None:
        """Pass all output to the transport."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self.wrote_at = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        self._report_room()

    def end(self) -> None:
        """Give consumers no more room; output already written is still sent."""
        self._ended = True

    def pause(self) -> None:
        """Record that the transport's buffer is full."""
        self._paused = True

    def resume(self) -> None:
        """Record that the transport's buffer has drained."""
        self._paused = False
        self._report_room()

    def _report_room(self) -> None:
        if self._refused and not self._paused and not self._ended:
            self._refused = False
            self._on_room()
