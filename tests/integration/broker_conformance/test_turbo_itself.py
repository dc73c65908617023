"""turbo's own connections, the fast path for deliveries and the confirmed publisher, on either broker."""

from __future__ import annotations

import asyncio

from tests.harness.embedded import BrokerUnderTest
from tests.integration.amqp.collector import Collector, linked, publish, run
from tests.integration.amqp.test_publisher import publisher_to
from turbo.amqp.publish.publisher import Published


def test_the_link_consumes_settles_and_changes_its_window(any_broker: BrokerUnderTest) -> None:
    sent = [b"%d" % number for number in range(2000)]

    async def scenario() -> None:
        sink = Collector()
        await asyncio.to_thread(publish, any_broker.url, "q", sent[:1000])
        async with linked(any_broker.url, ["q"], sink, prefetch_count=10) as link:
            await sink.until(lambda: len(sink.bodies) == 1000, "the first half")
            assert await link.set_prefetch(200)
            await asyncio.to_thread(publish, any_broker.url, "q", sent[1000:], declare=False)
            await sink.until(lambda: len(sink.bodies) == 2000, "the second half")
            assert sink.bodies == sent
            await asyncio.to_thread(any_broker.wait, "q", ready=0, unacked=0)

    run(scenario())


def test_what_the_link_held_comes_back_when_it_stops(any_broker: BrokerUnderTest) -> None:
    async def scenario() -> None:
        sink = Collector(ack=False)
        await asyncio.to_thread(publish, any_broker.url, "q", [b"1", b"2", b"3"])
        async with linked(any_broker.url, ["q"], sink) as link:
            await sink.until(lambda: len(sink.bodies) == 3, "all of them")
            epoch, _, tag = sink.deliveries[0]
            link.requeue(epoch, tag)
            await sink.until(lambda: len(sink.bodies) == 4, "the one handed back")
            link.ack(*sink.deliveries[3][::2])
            link.reject(*sink.deliveries[1][::2], requeue=False)
        await asyncio.to_thread(any_broker.wait, "q", ready=1, unacked=0)

    run(scenario())


def test_the_publisher_reports_the_outcome_of_each_message(any_broker: BrokerUnderTest) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(publish, any_broker.url, "q", [])
        async with publisher_to(any_broker.url) as ends:
            for number in range(500):
                ends.publish("q", b"%d" % number)
            ends.publish("nowhere", b"lost", mandatory=True)
            await ends.drained()
            assert ends.by_body.pop(b"lost") is Published.RETURNED
            assert set(ends.by_body.values()) == {Published.CONFIRMED}
        await asyncio.to_thread(any_broker.wait, "q", ready=500)

    run(scenario())
