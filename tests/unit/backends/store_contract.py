"""The contract of every result store, and stores and servers in memory for its tests.

``exercise_store`` is run against the doubles and the real stores over doubles here, and against real servers
under ``tests/integration``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import hiredis

from turbo.amqp.publish.confirms import Published
from turbo.backends.store import Done, ResultStore, ResultWrite, StoreOutcome, report
from turbo.backends.writer_thread import Trouble, WriteError


class MemoryStore:
    """A store in a dictionary, for tests of code that stores."""

    def __init__(self, *, high_water: int = 10_000) -> None:
        self.documents: dict[str, bytes] = {}
        self.held: list[tuple[ResultWrite, Done]] = []
        self.high_water = high_water
        #: While False, writes wait as they do when a server is away.
        self.up = True
        self._stopped = False
        self._due = False

    @property
    def backlog(self) -> int:
        return len(self.held)

    @property
    def congested(self) -> bool:
        return len(self.held) >= self.high_water

    def store(self, write: ResultWrite, done: Done) -> None:
        self.held.append((write, done))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._answer)

    def resume(self) -> None:
        self.up = True
        self._answer()

    def _answer(self) -> None:
        self._due = False
        if not self.up and not self._stopped:
            return
        held, self.held = self.held, []
        settled = []
        for write, done in held:
            outcome = StoreOutcome.FAILED if self._stopped else StoreOutcome.STORED
            if outcome.ok and write.guard and b'"SUCCESS"' in self.documents.get(write.task_id, b""):
                outcome = StoreOutcome.KEPT
            elif outcome.ok:
                self.documents[write.task_id] = write.payload
            settled.append((done, outcome))
        report(settled)

    async def start(self) -> None:
        """Do nothing."""

    async def drain(self, deadline: float) -> bool:
        while self.held and time.monotonic() < deadline:
            await asyncio.sleep(0)
        return not self.held

    async def stop(self, deadline: float) -> None:
        await self.drain(deadline)
        self._stopped = True
        self._answer()


class MemoryWriter:
    """A ``BatchWriter`` that keeps what it is given."""

    def __init__(self, faults: Sequence[Exception] = (), refused: Mapping[str, Trouble] | None = None) -> None:
        """``faults`` are raised by the first writes, ``refused`` names tasks that are never taken."""
        self.place = "the memory"
        self.batches: list[list[ResultWrite]] = []
        #: While clear, writes wait; ``abort`` sets it, and the waiting write fails.
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.down = False
        self.aborts = 0
        self.closed = False
        self._broken = False
        self._faults = list(faults)
        self._refused = refused or {}

    def open(self) -> None:
        if self.down:
            raise WriteError(Trouble.LOST, "down")

    def write(self, batch: Sequence[ResultWrite]) -> list[StoreOutcome]:
        self.entered.set()
        self.gate.wait(60)
        if self.down or self._broken:
            self._broken = False
            raise WriteError(Trouble.LOST, "down")
        if self._faults:
            raise self._faults.pop(0)
        for write in batch:
            if write.task_id in self._refused:
                raise WriteError(self._refused[write.task_id], "refused by the test")
        self.batches.append(list(batch))
        return [StoreOutcome.STORED] * len(batch)

    def abort(self) -> None:
        self.aborts += 1
        self._broken = True
        self.gate.set()

    def close(self) -> None:
        self.closed = True


class FakePublisher:
    """Answers a publish in the next loop iteration with what ``answer`` returns."""

    def __init__(self, answer: Callable[[str], Published] = lambda _: Published.CONFIRMED) -> None:
        self.answer = answer
        self.refusal = ""
        self.published: list[tuple[str, str, bytes, bytes, bool]] = []

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        mandatory: bool = False,
        done: Callable[[Published], None] | None = None,
    ) -> None:
        self.published.append((exchange, routing_key, header, body, mandatory))
        if done is not None:
            asyncio.get_running_loop().call_soon(done, self.answer(routing_key))


class FakeRedis:
    """Replaces ``redis.connection.connect``; executes the store's script on a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[bytes, bytes] = {}
        self.writes: list[bytes] = []
        self.connections: list[FakeConnection] = []
        #: Error text given to every write while set.
        self.error: str | None = None
        #: Connections to be cut after their next write, unanswered.
        self.cut_next = 0

    async def connect(
        self,
        address: object,
        tls: object,
        on_replies: Callable[[list[object]], None],
        on_writable: Callable[[], None],
        timeout: float,
    ) -> FakeConnection:
        connection = FakeConnection(self, on_replies)
        self.connections.append(connection)
        return connection


class FakeConnection:
    """One connection to a ``FakeRedis``."""

    def __init__(self, server: FakeRedis, on_replies: Callable[[list[object]], None]) -> None:
        self._server = server
        self._on_replies = on_replies
        self._reader = hiredis.Reader()
        self.writable = True
        self.lost: str | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        server = self._server
        server.writes.append(data)
        if server.cut_next:
            server.cut_next -= 1
            asyncio.get_running_loop().call_soon(self.abort, "cut by the test")
            return
        self._reader.feed(data)
        replies: list[object] = []
        while (command := self._reader.gets()) is not False:
            _name, _sha, _count, key, payload, _ttl, guard = command
            if server.error is not None:
                replies.append(hiredis.ReplyError(server.error))
            elif guard == b"1" and b'"SUCCESS"' in server.documents.get(key, b""):
                replies.append(0)
            else:
                server.documents[key] = payload
                replies.append(1)
        asyncio.get_running_loop().call_soon(self._answer, replies)

    def _answer(self, replies: list[object]) -> None:
        if self.lost is None:
            self._on_replies(replies)

    def abort(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
            self.closed.set_result(None)


async def exercise_store(store: ResultStore) -> None:
    """Check everything that holds for any store with a working server."""
    answers: Counter[int] = Counter()
    order: list[int] = []

    def listener(number: int) -> Done:
        def done(outcome: StoreOutcome) -> None:
            answers[number] += 1
            order.append(number)
            assert outcome.ok

        return done

    def write(number: int) -> ResultWrite:
        return ResultWrite(f"task-{number}", b'{"status": "STARTED"}', reply_to="somebody")

    await store.start()
    assert store.backlog == 0
    assert not store.congested
    for number in range(50):
        store.store(write(number), listener(number))
        assert not answers, "done was called from inside store()"
    assert store.backlog == 50
    assert await store.drain(time.monotonic() + 10)
    assert answers == dict.fromkeys(range(50), 1)
    assert order == sorted(order)

    def raising(outcome: StoreOutcome) -> None:
        raise RuntimeError("a listener of the test")

    def storing_again(outcome: StoreOutcome) -> None:
        store.store(write(100), listener(100))

    store.store(write(50), raising)
    store.store(write(51), storing_again)
    store.store(write(52), listener(52))
    assert await store.drain(time.monotonic() + 10)
    assert answers[52] == answers[100] == 1
    assert store.backlog == 0
    await store.stop(time.monotonic() + 10)
    await store.stop(time.monotonic() + 10)
    assert set(answers.values()) == {1}
