"""A TCP proxy between a client and a real server that injects faults on demand.

It runs in its own thread with an event loop. Every method may be called from the test's thread and has taken effect
when it returns. Modes apply to existing and new connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

from tests.harness.processes import PATIENCE, free_port

T = TypeVar("T")
_CHUNK = 64 * 1024


class _Pipe:
    """One accepted connection and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.client = client
        self.server = server
        self.tasks: list[asyncio.Task[None]] = []

    def sockets(self) -> list[socket.socket]:
        return [each for each in (self.client, self.server) if each is not None]


class FaultProxy:
    """Forwards 127.0.0.1:`port` to (`host`, `target`), as the current mode allows.

    Modes: `pass_through` (initially), `stall` (stop reading in both directions), `blackhole` (accept, read and
    discard), `refuse` (no listener). Single faults on the existing connections: `rst`, `fin`. Shaping: `delay`,
    `throttle`, `cut_after`.
    """

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._host, self._target = host, target
        # No port that an outgoing connection may get while nothing listens here.
        self.port = free_port()
        self.accepted = 0  # connections ever accepted
        self.forwarded = {"up": 0, "down": 0}  # bytes; up is client to server
        self._mode = "pass"
        self._delay = 0.0
        self._rate: float | None = None
        self._cut: dict[str, int | None] = {"up": None, "down": None}
        self._pipes: set[_Pipe] = set()
        self._loop = asyncio.new_event_loop()
        self._moving = asyncio.Event()
        self._accepting: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    # -- life ---------------------------------------------------------------------------------------------

    def start(self) -> FaultProxy:
        """Start to listen on a free port; return self."""
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """Close everything. Idempotent."""
        if not self._thread.is_alive():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- modes --------------------------------------------------------------------------------------------

    def pass_through(self) -> None:
        """Forward everything without shaping; ends `stall`, `blackhole` and `refuse`."""

        async def apply() -> None:
            self._mode, self._delay, self._rate = "pass", 0.0, None
            self._cut = {"up": None, "down": None}
            self._moving.set()
            await self._listen()

        self._call(apply())

    def stall(self) -> None:
        """Stop reading in both directions, so that the kernel's buffers fill up. New connections stall too."""

        async def apply() -> None:
            self._mode = "stall"
            self._moving.clear()

        self._call(apply())

    def blackhole(self) -> None:
        """Accept, read and discard, in both directions; nothing is answered or closed."""
        self._set_mode("blackhole")

    def refuse(self) -> None:
        """Stop listening and reset all connections; new connections are refused."""

        async def apply() -> None:
            self._mode = "refuse"
            self._unlisten()
            self._reset_all()

        self._call(apply())

    def rst(self) -> int:
        """Reset (RST) every connection at both ends; return how many. New ones are accepted."""

        async def apply() -> int:
            return self._reset_all()

        return self._call(apply())

    def fin(self, direction: str) -> int:
        """Half-close every connection: `up` sends FIN to the server, `down` to the client; return how many."""

        async def apply() -> int:
            for pipe in self._pipes:
                end = pipe.server if direction == "up" else pipe.client
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_WR)
            return len(self._pipes)

        return self._call(apply())

    def cut_after(self, count: int, direction: str = "up") -> None:
        """Forward `count` more bytes in `direction` (over all connections), then reset that connection."""

        async def apply() -> None:
            self._cut[direction] = count

        self._call(apply())

    def delay(self, seconds: float) -> None:
        """Delay the forwarding of every chunk."""

        async def apply() -> None:
            self._delay = seconds

        self._call(apply())

    def throttle(self, bytes_per_second: float) -> None:
        """Forward at most this many bytes per second in each direction of each connection."""

        async def apply() -> None:
            self._rate = bytes_per_second

        self._call(apply())

    @property
    def live(self) -> int:
        """Number of existing connections."""

        async def count() -> int:
            return len(self._pipes)

        return self._call(count())

    # -- on the loop --------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._moving.set()
        self._loop.run_forever()

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _set_mode(self, mode: str) -> None:
        async def apply() -> None:
            self._mode = mode
            self._moving.set()

        self._call(apply())

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        listener.setblocking(False)
        self._listener = listener
        self._accepting = self._loop.create_task(self._accept(listener))

    def _unlisten(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    async def _shut(self) -> None:
        self._unlisten()
        tasks = [task for pipe in self._pipes for task in pipe.tasks]
        self._reset_all()
        if self._accepting is not None:
            tasks.append(self._accepting)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self.accepted += 1
            client.setblocking(False)
            pipe = _Pipe(client, None)
            self._pipes.add(pipe)
            pipe.tasks.append(self._loop.create_task(self._serve(pipe)))

    async def _serve(self, pipe: _Pipe) -> None:
        if self._mode != "blackhole":
            server = socket.socket()
            server.setblocking(False)
            pipe.server = server
            try:
                await self._loop.sock_connect(server, (self._host, self._target))
            except OSError:
                self._reset(pipe)
                return
            pipe.tasks.append(self._loop.create_task(self._forward(pipe, server, pipe.client, "down")))
        await self._forward(pipe, pipe.client, pipe.server, "up")

    async def _forward(self, pipe: _Pipe, source: socket.socket, sink: socket.socket | None, way: str) -> None:
        try:
            while True:
                await self._moving.wait()
                data = await self._loop.sock_recv(source, _CHUNK)
                await self._moving.wait()  # stalled while the read was waiting: hold what came
                if not data:
                    break
                if self._mode == "blackhole" or sink is None:
                    continue
                await self._shape(len(data))
                data, ended = self._apply_cut(data, way)
                if data:
                    await self._loop.sock_sendall(sink, data)
                    self.forwarded[way] += len(data)
                if ended:
                    self._reset(pipe)
                    return
            if sink is not None and self._mode != "blackhole":
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._reset(pipe)
            return
        self._leave(pipe)

    async def _shape(self, size: int) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
        if self._rate:
            await asyncio.sleep(size / self._rate)

    def _apply_cut(self, data: bytes, way: str) -> tuple[bytes, bool]:
        left = self._cut[way]
        if left is None:
            return data, False
        if len(data) < left:
            self._cut[way] = left - len(data)
            return data, False
        self._cut[way] = None
        return data[:left], True

    def _leave(self, pipe: _Pipe) -> None:
        """Close the connection if both directions have ended."""
        me = asyncio.current_task()
        if all(task is me or task.done() for task in pipe.tasks):
            self._close(pipe, lambda each: None)

    def _reset_all(self) -> int:
        pipes = list(self._pipes)
        for pipe in pipes:
            self._reset(pipe)
        return len(pipes)

    def _reset(self, pipe: _Pipe) -> None:
        def linger(each: socket.socket) -> None:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        self._close(pipe, linger)

    def _close(self, pipe: _Pipe, prepare: Callable[[socket.socket], None]) -> None:
        if pipe not in self._pipes:
            return
        self._pipes.discard(pipe)
        me = asyncio.current_task()
        for task in pipe.tasks:
            if task is not me:
                task.cancel()
        for each in pipe.sockets():
            self._loop.remove_reader(each.fileno())
            self._loop.remove_writer(each.fileno())
            prepare(each)
            each.close()
