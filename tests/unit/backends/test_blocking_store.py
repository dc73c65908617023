"""The store that writes in a thread: order, repetition, what is given up, and its bounds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from tests.unit.backends.store_contract import MemoryWriter
from turbo.backends.blocking_store import BlockingStore
from turbo.backends.store import ResultWrite, StoreOutcome, StoreSettings
from turbo.backends.writer_thread import Trouble, WriteError

PATIENCE = 60


class Outcomes:
    """What each write was answered with, in the order of the answers."""

    def __init__(self) -> None:
        self.given: list[tuple[str, StoreOutcome]] = []

    def store(self, store: BlockingStore, *ids: str) -> None:
        for task_id in ids:
            store.store(
                ResultWrite(task_id, b"x"), lambda outcome, task_id=task_id: self.given.append((task_id, outcome))
            )


async def finish(store: BlockingStore) -> None:
    assert await store.drain(time.monotonic() + PATIENCE)
    await store.stop(time.monotonic() + PATIENCE)


def run(writer: MemoryWriter, ids: Sequence[str], settings: StoreSettings | None = None) -> Outcomes:
    outcomes = Outcomes()

    async def main() -> None:
        store = BlockingStore(writer, settings or StoreSettings())
        outcomes.store(store, *ids)
        await store.start()
        await finish(store)

    asyncio.run(main())
    return outcomes


IDS = [f"t{number}" for number in range(1700)]


def test_batches_are_bounded_and_in_order() -> None:
    writer = MemoryWriter()
    outcomes = run(writer, IDS)
    assert outcomes.given == [(task_id, StoreOutcome.STORED) for task_id in IDS]
    assert [write.task_id for batch in writer.batches for write in batch] == IDS
    assert [len(batch) for batch in writer.batches] == [500, 500, 500, 200]
    assert writer.closed


def test_a_large_document_is_a_batch_of_its_own() -> None:
    writer = MemoryWriter()

    async def main() -> None:
        store = BlockingStore(writer, StoreSettings())
        for size in (10, 5_000_000, 10, 10):
            store.store(ResultWrite(str(size), b"x" * size), lambda _: None)
        await store.start()
        await finish(store)

    asyncio.run(main())
    assert [len(batch) for batch in writer.batches] == [1, 1, 2]


def test_a_lost_connection_is_repeated_in_order(caplog: pytest.LogCaptureFixture) -> None:
    writer = MemoryWriter([WriteError(Trouble.LOST, "cut")] * 3)
    # Less than the pauses take together: a lost connection is repeated without a limit.
    outcomes = run(writer, IDS, StoreSettings(give_up_after=0.01))
    assert outcomes.given == [(task_id, StoreOutcome.STORED) for task_id in IDS]
    assert [len(batch) for batch in writer.batches] == [500, 500, 500, 200]
    assert caplog.text.count("Cannot reach the memory") == 1


def test_an_unexpected_error_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    writer = MemoryWriter([KeyError("a fault of the test")])
    outcomes = run(writer, IDS)
    assert outcomes.given == [(task_id, StoreOutcome.STORED) for task_id in IDS]
    assert "a fault of the test" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_unasked_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """What waits is not lost in silence: it ends as FAILED when the worker stops."""
    outcomes = Outcomes()

    async def main() -> None:
        store = BlockingStore(MemoryWriter([SystemExit()]), StoreSettings())
        outcomes.store(store, "a", "b")
        await store.start()
        thread = store._thread
        assert thread is not None
        await asyncio.wait_for(store._ended.wait(), PATIENCE)
        thread.join(PATIENCE)  # its error is printed in this test
        await store.stop(time.monotonic())

    asyncio.run(main())
    assert "has ended: 2 results wait" in caplog.text
    assert outcomes.given == [("a", StoreOutcome.FAILED), ("b", StoreOutcome.FAILED)]


def test_what_is_refused_for_good_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    writer = MemoryWriter(refused={"t3": Trouble.PERMANENT, "t499": Trouble.PERMANENT})
    outcomes = run(writer, IDS)
    assert outcomes.given == [
        (task_id, StoreOutcome.REFUSED if task_id in ("t3", "t499") else StoreOutcome.STORED) for task_id in IDS
    ]
    assert caplog.text.count("Result of task t3 not stored") == 1
    assert caplog.text.count("not stored") == 2


def test_what_is_refused_too_long_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    writer = MemoryWriter(refused={"t3": Trouble.REFUSED})
    outcomes = run(writer, IDS[:10], StoreSettings(give_up_after=0.2))
    assert outcomes.given == [
        (task_id, StoreOutcome.FAILED if task_id == "t3" else StoreOutcome.STORED) for task_id in IDS[:10]
    ]
    assert "Result of task t3 not stored" in caplog.text


def test_congestion_is_reported_and_relieved() -> None:
    relieved: list[bool] = []
    writer = MemoryWriter()
    outcomes = Outcomes()

    async def main() -> None:
        store = BlockingStore(writer, StoreSettings(high_water=100), on_relief=lambda: relieved.append(store.congested))
        outcomes.store(store, *IDS[:99])
        assert not store.congested
        outcomes.store(store, IDS[99])
        assert store.congested
        assert store.backlog == 100
        await store.start()
        await finish(store)

    asyncio.run(main())
    assert relieved == [False]


def test_bytes_congest_too() -> None:
    async def main() -> None:
        store = BlockingStore(MemoryWriter(), StoreSettings(high_water_bytes=1000))
        store.store(ResultWrite("a", b"x" * 999), lambda _: None)
        assert not store.congested
        store.store(ResultWrite("b", b"x"), lambda _: None)
        assert store.congested
        await store.start()
        await finish(store)
        assert not store.congested

    asyncio.run(main())


def test_the_loop_goes_on_while_the_thread_waits() -> None:
    writer = MemoryWriter()
    writer.gate.clear()
    outcomes = Outcomes()

    async def main() -> None:
        store = BlockingStore(writer, StoreSettings())
        outcomes.store(store, *IDS)
        await store.start()
        await asyncio.to_thread(writer.entered.wait, PATIENCE)
        assert not await store.drain(time.monotonic() + 0.05)
        assert outcomes.given == []
        assert store.backlog == len(IDS)
        writer.gate.set()
        await finish(store)

    asyncio.run(main())
    assert len(outcomes.given) == len(IDS)


def test_a_write_without_an_answer_is_broken_off_and_repeated() -> None:
    writer = MemoryWriter()
    writer.gate.clear()
    outcomes = run(writer, IDS[:3], StoreSettings(reply_timeout=0.1))
    assert writer.aborts >= 1
    assert outcomes.given == [(task_id, StoreOutcome.STORED) for task_id in IDS[:3]]


def test_stop_names_what_could_not_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    writer = MemoryWriter()
    writer.down = True
    outcomes = Outcomes()

    async def main() -> None:
        store = BlockingStore(writer, StoreSettings())
        await store.start()
        outcomes.store(store, "left-over")
        await store.stop(time.monotonic() + 0.1)
        await store.stop(time.monotonic() + 0.1)
        outcomes.store(store, "too-late")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert outcomes.given == [("left-over", StoreOutcome.FAILED), ("too-late", StoreOutcome.FAILED)]
    assert "left-over" in caplog.text
    assert "the result store is closed" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "turbo-results-writer"]


def test_a_store_that_was_never_started_can_be_stopped() -> None:
    outcomes = Outcomes()

    async def main() -> None:
        store = BlockingStore(MemoryWriter(), StoreSettings())
        outcomes.store(store, "a")
        await store.stop(time.monotonic())

    asyncio.run(main())
    assert outcomes.given == [("a", StoreOutcome.FAILED)]
