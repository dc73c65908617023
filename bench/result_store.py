"""The Redis store alone: processor time of the master's side of a result, with no broker and no task.

``python -m bench.result_store --url redis://127.0.0.1:6379/15`` stores small documents in batches of 1, 50 and 200
a loop turn and prints the time that passed and the processor time of this process, in microseconds a result. Names
of tasks are random, so it leaves documents behind that live for a minute. Figures: unpaired, read them as a size.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid

import uvloop

from turbo.backends.redis.store import RedisStore
from turbo.backends.store import ResultWrite, StoreOutcome, StoreSettings
from turbo.backends.url import parse_redis_url

BATCHES = (1, 50, 200)


async def round_of(store: RedisStore, batch: int, results: int) -> dict[str, float]:
    """Store ``results`` documents, ``batch`` a loop turn with at most two batches on their way."""
    ids = [str(uuid.uuid4()) for _ in range(results)]
    documents = [f'{{"status":"SUCCESS","result":42,"task_id":"{each}"}}'.encode() for each in ids]
    stored = 0

    def done(outcome: StoreOutcome) -> None:
        nonlocal stored
        stored += outcome is StoreOutcome.STORED

    begun, cpu = time.perf_counter(), time.process_time()
    for start in range(0, results, batch):
        for number in range(start, min(start + batch, results)):
            store.store(ResultWrite(ids[number], documents[number]), done)
        await asyncio.sleep(0)
        while store.backlog >= batch * (1 if batch == 1 else 2):
            await asyncio.sleep(0)
    await store.drain(time.monotonic() + 30)
    passed, used = time.perf_counter() - begun, time.process_time() - cpu
    if stored != results:
        raise SystemExit(f"only {stored} of {results} results were stored")
    return {"us": passed / results * 1e6, "cpu_us": used / results * 1e6}


async def measure(url: str, results: int) -> dict[int, dict[str, float]]:
    """One round a size of batch; the small ones with fewer results, so that each takes a similar time."""
    store = RedisStore(parse_redis_url(url), StoreSettings(expires=60))
    await store.start()
    try:
        await round_of(store, 50, min(results, 1000))
        return {batch: await round_of(store, batch, max(results // 10, 1) if batch == 1 else results)
                for batch in BATCHES}  # fmt: skip
    finally:
        await store.stop(time.monotonic() + 5)


def main() -> None:
    """Read the options, measure, print."""
    options = argparse.ArgumentParser(prog="python -m bench.result_store", description=__doc__)
    options.add_argument("--url", default="redis://127.0.0.1:6379/15", help="where to store")
    options.add_argument("--results", type=int, default=40_000, help="results a round")
    given = options.parse_args()
    for batch, figures in uvloop.run(measure(given.url, given.results)).items():
        print(f"batch {batch:>3}: {figures['us']:6.2f} us a result, {figures['cpu_us']:6.2f} us of processor time")


if __name__ == "__main__":
    main()
