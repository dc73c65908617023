"""The publisher against a real RabbitMQ: every message has one outcome, and none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness.fault_proxy import FaultProxy
from tests.harness.rabbitmq import RabbitMQ
from tests.integration.amqp.collector import (
    Collector,
    LagProbe,
    channel_to,
    header_payload,
    linked,
    publish,
    run,
    wait_depth,
)
from tests.integration.amqp.test_link_resilience import through
from turbo.amqp.publish.publisher import Published, Publisher
from turbo.amqp.url import parse_broker_urls

pytestmark = pytest.mark.row("WP27")


class Ends:
    """How each message ended; one end each."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.by_body: dict[bytes, Published] = {}
        self._ended = asyncio.Event()

    def publish(
        self, key: str, body: bytes, *, exchange: str = "", mandatory: bool = False, patient: bool = False
    ) -> None:
        def done(how: Published) -> None:
            assert body not in self.by_body, f"{body!r} ended twice"
            self.by_body[body] = how
            self._ended.set()

        header = header_payload(len(body))
        self.publisher.publish(exchange, key, header, body, mandatory=mandatory, patient=patient, done=done)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                self._ended.clear()
                await self._ended.wait()

    async def drained(self, seconds: float = 60) -> None:
        assert await self.publisher.drain(time.monotonic() + seconds), self.publisher.backlog


@contextlib.asynccontextmanager
async def publisher_to(url: str, **options: object) -> AsyncIterator[Ends]:
    publisher = Publisher(parse_broker_urls(url), **options)
    await publisher.start()
    try:
        yield Ends(publisher)
    finally:
        await publisher.stop(time.monotonic() + 5)


def bodies_in(url: str, queue: str) -> list[bytes]:
    found = []
    with channel_to(url) as channel:
        while True:
            method, _properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append(body)


def test_messages_arrive_in_order_and_are_confirmed(vhost: str) -> None:
    bodies = [b"%d" % number for number in range(3000)]

    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
        async with publisher_to(vhost) as ends:
            for body in bodies:
                ends.publish("q", body, mandatory=True)
            await ends.drained()
            assert ends.by_body == dict.fromkeys(bodies, Published.CONFIRMED)
            assert ends.publisher.backlog == 0

    run(scenario())
    assert bodies_in(vhost, "q") == bodies


def test_returned_refused_and_impossible_messages_do_not_disturb_others(vhost: str) -> None:
    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
            channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        async with publisher_to(vhost) as ends:
            expected = {}
            for number in range(30):
                ends.publish("q", b"good %d" % number)
                expected[b"good %d" % number] = Published.CONFIRMED
                if number % 10 == 5:
                    ends.publish("q", b"no exchange %d" % number, exchange=f"missing {number}")
                    expected[b"no exchange %d" % number] = Published.REFUSED
                if number % 10 == 6:
                    ends.publish("q" * 300, b"no key %d" % number)
                    expected[b"no key %d" % number] = Published.REFUSED
                if number % 10 == 7:
                    ends.publish("nowhere", b"no queue %d" % number, mandatory=True)
                    expected[b"no queue %d" % number] = Published.RETURNED
            ends.publish("full", b"first")
            ends.publish("full", b"second")
            expected |= {b"first": Published.CONFIRMED, b"second": Published.NACKED}
            await ends.drained()
            assert ends.by_body == expected

    run(scenario())
    assert set(bodies_in(vhost, "q")) == {b"good %d" % number for number in range(30)}


@pytest.mark.row("P25")
def test_a_patient_message_waits_for_room_in_a_full_queue(vhost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
            async with publisher_to(vhost) as ends:
                ends.publish("full", b"first")
                await ends.drained()
                ends.publish("full", b"second", patient=True)
                while not ends.publisher._nack_retry:
                    await asyncio.sleep(0.01)
                assert channel.basic_get("full", auto_ack=True)[2] == b"first"
                await ends.drained()
                assert ends.by_body[b"second"] is Published.CONFIRMED
                monkeypatch.setattr("turbo.amqp.publish.nack_retry.PAUSES", (0.01, 0.01))
                ends.publish("full", b"third", patient=True)
                await ends.drained()
                assert ends.by_body[b"third"] is Published.NACKED
                monkeypatch.setattr("turbo.amqp.publish.nack_retry.PAUSES", (3600.0,))
                ends.publish("full", b"fourth", patient=True)
                while not ends.publisher._nack_retry:
                    await asyncio.sleep(0.01)
                await ends.publisher.stop(time.monotonic())
                assert ends.by_body[b"fourth"] is Published.FAILED

    run(scenario())


def test_nothing_is_lost_while_connections_break(vhost: str, rabbitmq: RabbitMQ, fault_proxy: FaultProxy) -> None:
    bodies = [b"%d" % number for number in range(4000)]

    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
        async with publisher_to(through(fault_proxy, vhost)) as ends:
            for start in range(0, len(bodies), 1000):
                for body in bodies[start : start + 1000]:
                    ends.publish("q", body)
                # Some of these have ended, and a full window is in flight.
                await ends.until(lambda wanted=start + 100: len(ends.by_body) > wanted)
                if start % 2000:
                    # From now on no confirm comes through, however long this process is kept from what follows.
                    fault_proxy.delay(3600)
                    fault_proxy.rst()
                    fault_proxy.delay(0)
                else:
                    rabbitmq.close_all_connections(vhost.rpartition("/")[2])
            await ends.drained(100)
            assert ends.by_body == dict.fromkeys(bodies, Published.CONFIRMED)
            assert ends.publisher.resent > 100

    run(scenario())
    assert set(bodies_in(vhost, "q")) == set(bodies)


def test_what_was_published_before_the_broker_is_there_is_sent_later(vhost: str, fault_proxy: FaultProxy) -> None:
    async def scenario() -> None:
        fault_proxy.refuse()
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
        async with publisher_to(through(fault_proxy, vhost)) as ends:
            ends.publish("q", b"early")
            assert not await ends.publisher.drain(time.monotonic() + 0.5)
            assert not ends.publisher.connected
            assert ends.publisher.dialer.last_error
            fault_proxy.pass_through()
            await ends.drained()
            assert ends.by_body == {b"early": Published.CONFIRMED}

    run(scenario())


def test_an_alarm_stops_publishing_and_nothing_else(vhost: str, rabbitmq: RabbitMQ) -> None:
    async def scenario() -> None:
        publish(vhost, "work", [b"%d" % number for number in range(2000)])
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
        sink = Collector(ack=False)
        async with publisher_to(vhost) as ends, linked(vhost, ["work"], sink, prefetch_count=10) as link:
            ends.publish("q", b"before")
            await ends.drained()
            await sink.until(lambda: len(sink.bodies) == 10, "the window")
            rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
            sent = [b"before"]
            try:
                # The broker blocks who publishes after its alarm: what it has confirmed came before.
                async with asyncio.timeout(60):
                    while not ends.publisher.blocked:
                        if len(ends.by_body) == len(sent):
                            sent.append(b"during %d" % len(sent))
                            ends.publish("q", sent[-1])
                        await asyncio.sleep(0.01)
                ends.publish("q", b"queued")
                sink.ack = True
                for tag in range(1, 11):
                    link.ack(1, tag)
                await sink.until(lambda: len(sink.bodies) == 2000, "all work, acknowledged during the alarm")
                assert ends.by_body == dict.fromkeys(sent[:-1], Published.CONFIRMED)
                assert ends.publisher.backlog == 2
            finally:
                rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
            await ends.drained()
            assert set(ends.by_body.values()) == {Published.CONFIRMED}
            assert not ends.publisher.blocked
            assert bodies_in(vhost, "q") == [*sent, b"queued"]

    run(scenario())


def test_a_full_publisher_refuses_messages(vhost: str, fault_proxy: FaultProxy) -> None:
    async def scenario() -> None:
        fault_proxy.refuse()
        async with publisher_to(through(fault_proxy, vhost), limit=5) as ends:
            for number in range(8):
                ends.publish("q", b"%d" % number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert ends.by_body == dict.fromkeys([b"5", b"6", b"7"], Published.FAILED)
            assert (ends.publisher.backlog, ends.publisher.refused) == (5, 3)
            await ends.publisher.stop(time.monotonic() + 0.2)
            assert ends.by_body == {b"%d" % number: Published.FAILED for number in range(8)}
            ends.publish("q", b"late")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert ends.by_body[b"late"] is Published.FAILED

    run(scenario())


def test_a_publisher_is_congested_until_the_broker_has_taken_most_of_its_messages(
    vhost: str, fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    relieved: list[int] = []

    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
        fault_proxy.refuse()
        async with publisher_to(through(fault_proxy, vhost), limit=8) as ends:
            ends.publisher.on_relief.add(lambda: relieved.append(ends.publisher.backlog))
            for number in range(3):
                ends.publish("q", b"%d" % number)
            assert not ends.publisher.congested
            for number in range(3, 200):
                ends.publish("q", b"%d" % number)
            assert ends.publisher.congested and not relieved
            fault_proxy.pass_through()
            await ends.drained()
            assert not ends.publisher.congested
            assert len(relieved) == 1 and relieved[0] <= 2, "once, when no more than a quarter was left"

    run(scenario())
    assert caplog.text.count("failed") == 0, "192 refused ones are counted, not listed"
    assert caplog.text.count("messages refused") == 8


def test_a_large_message_does_not_block_the_loop(vhost: str) -> None:
    body = bytes(range(256)) * (48 * 4096)  # 48 MB

    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True)
        async with LagProbe() as probe, publisher_to(vhost) as ends:
            ends.publish("q", b"first")
            ends.publish("q", body)
            ends.publish("q", b"last")
            await ends.drained(100)
            assert list(ends.by_body.values()) == [Published.CONFIRMED] * 3
        assert probe.worst < 0.5, f"the loop stood still for {probe.worst:.3f} s"

    run(scenario())
    assert bodies_in(vhost, "q") == [b"first", body, b"last"]
    wait_depth(vhost, "q", 0)
