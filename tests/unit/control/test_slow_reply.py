"""A reply that takes longer than the client waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from turbo.control.slow_reply import SlowReply


def test_the_reply_comes_if_there_is_time() -> None:
    async def run() -> object:
        async def work() -> str:
            return "done"

        return await SlowReply(work(), "begun").before(time.time() + 60)

    assert asyncio.run(run()) == "done"


@pytest.mark.parametrize("expires", [0.0, 1_000_000.0])
def test_the_other_reply_comes_in_time_and_the_work_goes_on(expires: float) -> None:
    async def run() -> tuple[object, object]:
        go: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        reply = await SlowReply(go, "begun").before(expires)
        go.set_result("done")
        return reply, await go

    assert asyncio.run(run()) == ("begun", "done")


def test_an_error_is_the_reply() -> None:
    async def run() -> None:
        async def work() -> None:
            raise ValueError("no")

        await SlowReply(work(), "begun").before(time.time() + 60)

    with pytest.raises(ValueError, match="no"):
        asyncio.run(run())
