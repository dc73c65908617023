"""The Redis store against a real Redis, read back by Celery's own AsyncResult."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import celery
import pytest
import redis
import uvloop

from tests.harness.fault_proxy import FaultProxy
from tests.harness.processes import wait_until
from tests.harness.redis_server import RedisServer
from tests.integration.backends.documents import document
from turbo.backends.redis.store import RedisStore
from turbo.backends.store import ResultWrite, StoreOutcome, StoreSettings
from turbo.backends.url import parse_redis_url


class TaskCounts:
    """Counts the answers of each write, by its id."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.outcomes: dict[str, StoreOutcome] = {}

    def store(self, store: RedisStore, write: ResultWrite) -> None:
        def done(outcome: StoreOutcome, task_id: str = write.task_id) -> None:
            self.answers[task_id] += 1
            self.outcomes[task_id] = outcome

        store.store(write, done)


async def finish(store: RedisStore, seconds: float = 60) -> None:
    assert await store.drain(time.monotonic() + seconds)
    await store.stop(time.monotonic() + 1)


def test_celery_reads_what_is_stored_and_is_woken_by_it(redis_url: str) -> None:
    app = celery.Celery(broker="memory://", backend=redis_url)
    app.conf.result_expires = 500
    ids = [str(uuid.uuid4()) for _ in range(50)]
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(app.AsyncResult(ids[0]).get(timeout=60)))
    server = redis.Redis.from_url(redis_url)

    async def run() -> None:
        store = RedisStore(parse_redis_url(redis_url), StoreSettings(expires=500))
        await store.start()
        task_counts = TaskCounts()
        while not any(int(count) for _, count in server.pubsub_numsub(f"celery-task-meta-{ids[0]}")):
            await asyncio.sleep(0.01)
        for number, task_id in enumerate(ids):
            task_counts.store(store, ResultWrite(task_id, document(task_id, result=number)))
        await finish(store)
        assert set(task_counts.outcomes.values()) == {StoreOutcome.STORED}
        assert task_counts.answers.total() == 50

    waiter.start()
    uvloop.run(run())
    waiter.join(60)
    assert got == [0]
    assert [app.AsyncResult(task_id).get(timeout=60) for task_id in ids] == list(range(50))
    assert 490 <= server.ttl(f"celery-task-meta-{ids[3]}") <= 500
    server.close()
    app.close()


@pytest.mark.parametrize("expires", [None, 0])
def test_no_lifetime_means_for_ever(redis_url: str, expires: float | None) -> None:
    async def run() -> None:
        store = RedisStore(parse_redis_url(redis_url), StoreSettings(expires=expires, global_keyprefix="app"))
        await store.start()
        task_counts = TaskCounts()
        task_counts.store(store, ResultWrite("a", b"x"))
        await finish(store)

    uvloop.run(run())
    with redis.Redis.from_url(redis_url) as server:
        assert server.ttl("app_celery-task-meta-a") == -1


def test_a_guarded_write_leaves_a_success_alone(redis_url: str) -> None:
    there = {
        "json": document("json"),
        "spaced": b'{"task_id": "spaced",\n "status" : "SUCCESS"}',
        "pickle": pickle.dumps({"status": "SUCCESS", "result": 1}),
        "yaml": b"result: 1\nstatus: SUCCESS\n",
        "compressed": b"\x00celery-compressed\x00application/x-gzip\x00" + zlib.compress(document("compressed")),
        "failure": document("failure", "FAILURE", {"exc_type": "X", "exc_message": ["SUCCESS"]}),
        "started": document("started", "STARTED", "SUCCESS"),
        "compressed-started": b"\x00celery-compressed\x00application/x-gzip\x00"
        + zlib.compress(document("compressed-started", "STARTED")),
        "absent": None,
    }
    server = redis.Redis.from_url(redis_url)
    for task_id, value in there.items():
        if value is not None:
            server.set(f"celery-task-meta-{task_id}", value)

    async def run() -> TaskCounts:
        store = RedisStore(parse_redis_url(redis_url), StoreSettings())
        await store.start()
        task_counts = TaskCounts()
        for task_id in there:
            task_counts.store(store, ResultWrite(task_id, document(task_id, "FAILURE"), guard=True))
        await finish(store)
        return task_counts

    task_counts = uvloop.run(run())
    kept = {task_id for task_id, outcome in task_counts.outcomes.items() if outcome is StoreOutcome.KEPT}
    assert kept == {"json", "spaced", "pickle", "yaml", "compressed"}
    for task_id, value in there.items():
        now = server.get(f"celery-task-meta-{task_id}")
        assert now == (value if task_id in kept else document(task_id, "FAILURE"))
    server.close()


def _load(url: str, count: int, trouble: Callable[[Callable[[int], None]], None]) -> TaskCounts:
    """Store ``count`` results, a hundred every few milliseconds, while ``trouble(stored)`` goes on beside.

    ``stored(n)`` waits until ``n`` of them are, so that trouble comes in their midst. It stays in the test's own
    thread: a server started by another would end with that thread.
    """
    over = threading.Event()
    task_counts = TaskCounts()

    def stored(number: int) -> None:
        wait_until(f"{number} results are stored", lambda: len(task_counts.outcomes) >= number, 60)

    async def run() -> TaskCounts:
        store = RedisStore(parse_redis_url(url), StoreSettings(reply_timeout=1.0, connect_timeout=1.0))
        await store.start()
        sent = 0
        while sent < count or not over.is_set():
            for _ in range(100):
                if sent < count:
                    task_counts.store(store, ResultWrite(f"t{sent}", document(f"t{sent}", result=sent)))
                    sent += 1
            await asyncio.sleep(0.01)
        await finish(store, 100)
        return task_counts

    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(uvloop.run, run())
        try:
            trouble(stored)
        finally:
            over.set()
        return load.result()


def _check_all(url: str, count: int, task_counts: TaskCounts) -> None:
    assert task_counts.answers == {f"t{n}": 1 for n in range(count)}
    assert set(task_counts.outcomes.values()) == {StoreOutcome.STORED}
    with redis.Redis.from_url(url) as server:
        values = server.mget([f"celery-task-meta-t{n}" for n in range(count)])
        assert [json.loads(value)["result"] for value in values] == list(range(count))


@pytest.mark.row("P22")
def test_nothing_is_lost_when_redis_is_killed(redis_server: RedisServer, redis_url: str) -> None:
    def trouble(stored: Callable[[int], None]) -> None:
        for number in (3000, 7000, 11_000):
            stored(number)
            redis_server.kill()
            redis_server.start()

    _check_all(redis_url, 20_000, _load(redis_url, 20_000, trouble))


@pytest.mark.row("P22")
def test_nothing_is_lost_when_redis_freezes(redis_server: RedisServer, redis_url: str) -> None:
    def trouble(stored: Callable[[int], None]) -> None:
        for number, pause in ((3000, 0.3), (7000, 2.5)):
            stored(number)
            redis_server.pause()
            time.sleep(pause)  # shorter and longer than an answer may take
            redis_server.resume()

    _check_all(redis_url, 20_000, _load(redis_url, 20_000, trouble))


@pytest.mark.row("P22")
def test_nothing_is_lost_when_connections_are_cut(redis_server: RedisServer, redis_url: str) -> None:
    with FaultProxy(redis_server.port) as proxy:

        def trouble(stored: Callable[[int], None]) -> None:
            for number in range(500, 5500, 500):
                stored(number)
                wait_until("a connection is cut", lambda: proxy.rst() > 0, 60)

        through = redis_url.replace(str(redis_server.port), str(proxy.port))
        task_counts = _load(through, 10_000, trouble)
    _check_all(redis_url, 10_000, task_counts)


def test_a_full_redis_is_asked_again_until_it_has_room(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis.Redis.from_url(redis_url)

    def trouble(stored: Callable[[int], None]) -> None:
        server.config_set("maxmemory", "1")
        wait_until("Redis has refused some", lambda: "OOM" in caplog.text, 60)
        server.config_set("maxmemory", "0")

    try:
        task_counts = _load(redis_url, 2000, trouble)
    finally:
        server.config_set("maxmemory", "0")
        server.close()
    _check_all(redis_url, 2000, task_counts)


def test_what_redis_refuses_for_good_fails_by_name(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis.Redis.from_url(redis_url)
    server.config_set("maxmemory", "1")

    async def run() -> TaskCounts:
        store = RedisStore(parse_redis_url(redis_url), StoreSettings(give_up_after=0.3))
        await store.start()
        task_counts = TaskCounts()
        task_counts.store(store, ResultWrite("the-one", b"x"))
        await finish(store)
        return task_counts

    try:
        task_counts = uvloop.run(run())
    finally:
        server.config_set("maxmemory", "0")
        server.close()
    assert task_counts.outcomes == {"the-one": StoreOutcome.FAILED}
    assert task_counts.answers == {"the-one": 1}
    assert "the-one" in caplog.text


def test_a_script_flushed_away_is_loaded_again(redis_url: str) -> None:
    server = redis.Redis.from_url(redis_url)

    def trouble(stored: Callable[[int], None]) -> None:
        for number in (500, 1500, 2500):
            stored(number)
            server.script_flush()

    task_counts = _load(redis_url, 5000, trouble)
    server.close()
    _check_all(redis_url, 5000, task_counts)


def test_a_replica_is_asked_until_it_is_the_master(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis.Redis.from_url(redis_url)

    def trouble(stored: Callable[[int], None]) -> None:
        stored(500)
        server.replicaof("127.0.0.1", "1")
        wait_until("Redis has refused some", lambda: "READONLY" in caplog.text, 60)
        server.replicaof("NO", "ONE")

    try:
        task_counts = _load(redis_url, 5000, trouble)
    finally:
        server.replicaof("NO", "ONE")
        server.close()
    _check_all(redis_url, 5000, task_counts)


def test_stop_names_what_could_not_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> TaskCounts:
        store = RedisStore(parse_redis_url("redis://:hush@127.0.0.1:1/0"), StoreSettings())
        await store.start()
        task_counts = TaskCounts()
        task_counts.store(store, ResultWrite("left-over", b"x"))
        await store.stop(time.monotonic() + 0.2)
        await store.stop(time.monotonic() + 0.2)
        task_counts.store(store, ResultWrite("too-late", b"x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task_counts

    task_counts = uvloop.run(run())
    assert task_counts.answers == {"left-over": 1, "too-late": 1}
    assert set(task_counts.outcomes.values()) == {StoreOutcome.FAILED}
    assert "left-over" in caplog.text
    assert "hush" not in caplog.text


def test_a_wrong_password_is_logged_and_results_wait(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis.Redis.from_url(redis_url)
    server.config_set("requirepass", "right")
    port = redis_server.port
    database = redis_url.rpartition("/")[2]

    async def run() -> None:
        wrong = RedisStore(parse_redis_url(f"redis://:hush@127.0.0.1:{port}/{database}"), StoreSettings())
        await wrong.start()
        wrong.store(ResultWrite("b", b"x"), lambda _: None)
        async with asyncio.timeout(60):
            while "WRONGPASS" not in caplog.text:  # no event tells of a line
                await asyncio.sleep(0.01)
        assert not await wrong.drain(time.monotonic() + 0.3)
        assert wrong.backlog == 1
        await wrong.stop(time.monotonic())
        right = RedisStore(parse_redis_url(f"redis://:right@127.0.0.1:{port}/{database}"), StoreSettings())
        await right.start()
        task_counts = TaskCounts()
        task_counts.store(right, ResultWrite("a", b"x"))
        await finish(right)
        assert task_counts.outcomes == {"a": StoreOutcome.STORED}

    try:
        uvloop.run(run())
    finally:
        server.config_set("requirepass", "")
        server.close()
    assert "WRONGPASS" in caplog.text
    assert "hush" not in caplog.text


def test_congestion_is_reported_and_relieved(redis_url: str) -> None:
    relieved = []

    async def run() -> None:
        store = RedisStore(
            parse_redis_url(redis_url), StoreSettings(high_water=100), on_relief=lambda: relieved.append(1)
        )
        task_counts = TaskCounts()
        for number in range(99):
            task_counts.store(store, ResultWrite(str(number), b"x"))
        assert not store.congested
        task_counts.store(store, ResultWrite("last", b"x"))
        assert store.congested
        assert store.backlog == 100
        await store.start()
        await finish(store)
        assert not store.congested

    uvloop.run(run())
    assert relieved == [1]
