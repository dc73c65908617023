"""Every store, real and double, over doubles of its server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.unit.backends.store_contract import (
    FakePublisher,
    FakeRedis,
    MemoryStore,
    MemoryWriter,
    exercise_store,
)
from turbo.amqp.publish.confirms import Published
from turbo.backends.blocking_store import BlockingStore
from turbo.backends.disabled import DisabledStore
from turbo.backends.redis import store as redis_store
from turbo.backends.redis.store import RedisStore
from turbo.backends.rpc.store import RpcStore
from turbo.backends.store import ResultStore, ResultWrite, StoreOutcome, StoreSettings
from turbo.backends.url import RedisAddress
from turbo.protocol.properties import decode_header


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    server = FakeRedis()
    monkeypatch.setattr(redis_store, "connect", server.connect)
    return server


MAKERS: dict[str, Callable[[], ResultStore]] = {
    "memory": MemoryStore,
    "disabled": DisabledStore,
    "rpc": lambda: RpcStore(FakePublisher(), StoreSettings()),
    "redis": lambda: RedisStore(RedisAddress(), StoreSettings()),
    "blocking": lambda: BlockingStore(MemoryWriter(), StoreSettings()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_store_keeps_the_contract(name: str, server: FakeRedis) -> None:
    async def run() -> None:
        await exercise_store(MAKERS[name]())

    asyncio.run(run())


def test_redis_sends_all_of_one_loop_iteration_in_one_write(server: FakeRedis) -> None:
    async def run() -> None:
        store = RedisStore(RedisAddress(), StoreSettings())
        await store.start()
        await asyncio.sleep(0)
        for number in range(200):
            store.store(ResultWrite(str(number), b"x"), lambda _: None)
        assert await store.drain(time.monotonic() + 5)
        await store.stop(time.monotonic() + 5)

    asyncio.run(run())
    assert len(server.writes) == 1
    assert len(server.documents) == 200


def test_redis_repeats_what_a_cut_left_unanswered(server: FakeRedis) -> None:
    outcomes: list[StoreOutcome] = []

    async def run() -> None:
        store = RedisStore(RedisAddress(), StoreSettings())
        server.cut_next = 1
        await store.start()
        for number in range(10):
            store.store(ResultWrite(str(number), b"x"), outcomes.append)
        assert await store.drain(time.monotonic() + 5)
        await store.stop(time.monotonic() + 5)

    asyncio.run(run())
    assert outcomes == [StoreOutcome.STORED] * 10
    assert len(server.connections) == 2


def test_rpc_properties_and_form() -> None:
    publisher = FakePublisher()
    outcomes: list[StoreOutcome] = []

    async def run() -> None:
        store = RpcStore(publisher, StoreSettings(persistent=True))
        store.store(ResultWrite("t1", b"{}", reply_to="q", correlation_id="c1"), outcomes.append)
        store.store(ResultWrite("t2", b"{...}", reply_to="q"), outcomes.append)
        store.store(ResultWrite("t3", b"{}"), outcomes.append)
        store.store(ResultWrite("t4" * 200, b"{}", reply_to="q"), outcomes.append)
        assert await store.drain(time.monotonic() + 5)

    asyncio.run(run())
    assert sorted(each.name for each in outcomes) == ["DISCARDED", "REFUSED", "STORED", "STORED"]
    (exchange, key, header, body, mandatory), second = publisher.published
    assert (exchange, key, body, mandatory) == ("", "q", b"{}", True)
    properties, size = decode_header(header)
    assert size == 2
    assert properties.correlation_id == "c1"
    assert properties.delivery_mode == 2
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert properties.headers == {}
    assert properties.priority == 0
    properties, size = decode_header(second[2])
    assert (properties.correlation_id, size) == ("t2", 5)


@pytest.mark.row("P23")
def test_rpc_unroutable_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[StoreOutcome] = []
    store_box: list[RpcStore] = []

    async def run() -> None:
        store = RpcStore(FakePublisher(lambda _: Published.RETURNED), StoreSettings())
        store_box.append(store)
        for number in range(3):
            store.store(ResultWrite(str(number), b"", reply_to="gone"), outcomes.append)
        assert await store.drain(time.monotonic() + 5)

    asyncio.run(run())
    assert outcomes == [StoreOutcome.UNROUTABLE] * 3
    assert store_box[0].unroutable == 3
    assert caplog.text.count("gone is gone") == 1


@pytest.mark.parametrize(
    ("published", "expected"),
    [(Published.FAILED, StoreOutcome.FAILED), (Published.REFUSED, StoreOutcome.REFUSED)],
)
def test_rpc_a_failed_publish_is_logged_with_its_task(
    published: Published, expected: StoreOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: list[StoreOutcome] = []

    async def run() -> None:
        store = RpcStore(FakePublisher(lambda _: published), StoreSettings())
        store.store(ResultWrite("the-task", b"", reply_to="q"), outcomes.append)
        assert await store.drain(time.monotonic() + 5)

    asyncio.run(run())
    assert outcomes == [expected]
    assert "the-task" in caplog.text
