"""BrokerLink through a proxy that misbehaves: it always comes back, soon, with nothing left over."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable

import pytest

from tests.harness.fault_proxy import FaultProxy
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.integration.amqp.collector import Collector, LagProbe, come_to, linked, publish, run
from turbo.amqp.consume.link import BrokerLink

#: Seconds in which consumption must have resumed.
RESUMED = 5.0


def through(proxy: FaultProxy, url: str) -> str:
    head, _, vhost = url.rpartition("/")
    return f"{head.rpartition(':')[0]}:{proxy.port}/{vhost}"


async def soon_ready(link: BrokerLink) -> None:
    """Wait until the link consumes, which it must do in time."""
    began = Stopwatch()
    assert await link.wait_ready(60), link.last_error
    assert began.seconds < RESUMED


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def break_by(kind: str, proxy: FaultProxy, rabbitmq: RabbitMQ, vhost: str) -> None:
    """Break the connections that exist, by one of the ways."""
    if kind == "rst":
        proxy.rst()
    elif kind == "broker's eof":
        proxy.fin("down")
    elif kind == "our eof":
        proxy.fin("up")
    else:
        rabbitmq.close_all_connections(vhost.rpartition("/")[2])


@pytest.mark.row("CN11", "CN12")
@pytest.mark.parametrize("kind", ["rst", "broker's eof", "our eof", "closed by an operator"])
def test_a_broken_connection_is_replaced_and_its_tags_are_void(
    kind: str, vhost: str, rabbitmq: RabbitMQ, fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        publish(vhost, "q", [b"held"])
        sink = Collector(ack=False)
        async with LagProbe() as probe, linked(through(fault_proxy, vhost), ["q"], sink) as link:
            await sink.until(lambda: len(sink.bodies) == 1, "the message")
            for round_number in range(1, 4):
                began = Stopwatch()
                break_by(kind, fault_proxy, rabbitmq, vhost)
                await sink.until(lambda n=round_number: len(sink.bodies) == n + 1, "its redelivery")
                assert began.seconds < RESUMED
                assert link.epoch == round_number + 1
                link.ack(round_number, sink.deliveries[round_number - 1][2])
                assert link.stale_acks.stale == round_number
            link.ack(link.epoch, sink.deliveries[-1][2])
            await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=0, unacked=0, consumers=1)
            ups = [epoch for name, epoch, _ in sink.events if name == "up"]
            lost = [epoch for name, epoch, _ in sink.events if name == "lost"]
            assert (ups, lost) == ([1, 2, 3, 4], [1, 2, 3])
        assert probe.worst < 0.5

    with caplog.at_level(logging.INFO):
        run(scenario())
    assert "settled after that session ended" in caplog.text


@pytest.mark.row("CN11", "CN12")
@pytest.mark.parametrize("ack", [False, True])
def test_a_reset_right_behind_data_is_noticed(
    ack: bool, vhost: str, fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if nothing is written, and no heartbeat is near."""

    async def scenario() -> None:
        sink = Collector(ack=ack)
        async with linked(through(fault_proxy, vhost), ["q"], sink, heartbeat=600) as link:
            for epoch in range(1, 4):
                before = fault_proxy.forwarded["down"]
                # The loop stands still: it finds the data and the reset together.
                publish(vhost, "q", [b"m"])
                wait_until("the message has arrived", lambda b=before: fault_proxy.forwarded["down"] > b, 60)
                fault_proxy.rst()
                await sink.until(lambda e=epoch: ("up", e + 1, "") in sink.events, "the next session")
                assert await link.wait_ready(60)
        *reasons, _stopped = [reason for name, _, reason in sink.events if name == "lost"]
        assert len(reasons) == 3
        # A write that met the error before the next read has cleared it.
        assert all("reset by peer" in reason or "indicated EOF" in reason for reason in reasons), reasons

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert not [record for record in caplog.records if record.name.startswith(("turbo", "asyncio"))], caplog.text


@pytest.mark.row("CN12", "CN15")
def test_it_starts_without_a_broker_and_logs_one_line(
    vhost: str, fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        fault_proxy.refuse()
        sink = Collector()
        async with linked(through(fault_proxy, vhost), ["q"], sink, ready=False) as link:
            await come_to(lambda: link.dialer.attempts >= 3, "two failed attempts")
            assert not link.ready
            assert link.last_error is not None and "guest:guest" not in link.last_error
            fault_proxy.pass_through()
            await soon_ready(link)
            publish(vhost, "q", [b"m"])
            await sink.until(lambda: sink.bodies == [b"m"], "a message")

    with caplog.at_level(logging.INFO):
        run(scenario())
    said = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(said) == 2, said
    assert "Cannot connect to" in said[0] and "refused" in said[0] and "hint: nothing listens there" in said[0]
    assert "established again" in said[1]
    assert not [record for record in caplog.records if record.name.startswith("pika")]


def test_an_attempt_that_hangs_does_not_hold_up_the_next(vhost: str, fault_proxy: FaultProxy) -> None:
    async def scenario() -> None:
        fault_proxy.blackhole()
        sink = Collector()
        async with LagProbe() as probe, linked(through(fault_proxy, vhost), ["q"], sink, ready=False) as link:
            assert not await link.wait_ready(1.0)
            fault_proxy.pass_through()
            await soon_ready(link)  # the first attempt hangs in a connection that stays dead
        assert probe.worst < 0.5

    run(scenario())


@pytest.mark.row("WP24")
def test_any_of_several_addresses_will_do(vhost: str, fault_proxy: FaultProxy) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            nobody = f"amqp://guest:guest@127.0.0.1:{taken.getsockname()[1]}/x"
            sink = Collector()
            async with linked([nobody, through(fault_proxy, vhost), nobody], ["q"], sink) as link:
                fault_proxy.rst()
                await sink.until(lambda: link.epoch == 2 and sink.events[-1][0] == "up", "a new session")
                await soon_ready(link)

    run(scenario())


@pytest.mark.row("WP29", "P34")
def test_a_silent_broker_is_noticed(vhost: str, fault_proxy: FaultProxy) -> None:
    heartbeat = 2

    async def scenario() -> None:
        sink = Collector()
        async with linked(through(fault_proxy, vhost), ["q"], sink, heartbeat=heartbeat) as link:
            await asyncio.sleep(2 * heartbeat + 1)
            assert link.epoch == 1, "an idle connection lives by heartbeats"
            began = Stopwatch()
            fault_proxy.stall()
            await sink.until(lambda: sink.saw("lost"), "the loss")
            assert began.seconds < 2 * heartbeat + 5
            fault_proxy.pass_through()
            assert await link.wait_ready(60)
            assert began.seconds < 2 * heartbeat + 5 + RESUMED

    run(scenario())


@pytest.mark.row("WP29")
def test_a_busy_connection_lives_by_its_deliveries(vhost: str) -> None:
    async def scenario() -> None:
        sink = Collector()
        async with linked(vhost, ["q"], sink, heartbeat=2) as link:
            until = time.monotonic() + 14
            count = 0
            while time.monotonic() < until:
                await asyncio.to_thread(publish, vhost, "q", [b"m"] * 5)
                count += 5
            await sink.until(lambda: len(sink.bodies) == count, "all")
            assert link.epoch == 1

    run(scenario())


def test_cut_at_every_step_of_the_handshake_it_comes_back_and_leaks_nothing(
    vhost: str, fault_proxy: FaultProxy
) -> None:
    async def scenario() -> None:
        sink = Collector(ack=True)
        async with linked(through(fault_proxy, vhost), ["q"], sink) as link:
            before = open_files()
            for direction, step in (("up", 37), ("down", 53)):
                for count in range(0, 560, step):
                    epoch = link.epoch
                    fault_proxy.cut_after(count, direction)
                    fault_proxy.rst()
                    await sink.until(lambda old=epoch: link.epoch > old and sink.events[-1][0] == "up", "a session")
                    await soon_ready(link)
                    link.dialer._failures = 0  # the waiting is another test's
            publish(vhost, "q", [b"alive"])
            await sink.until(lambda: b"alive" in sink.bodies, "a message")
            await asyncio.to_thread(wait_until, "what was opened is closed", lambda: open_files() <= before, 60)

    run(scenario())


@pytest.mark.parametrize(
    "fault", [FaultProxy.stall, FaultProxy.blackhole, FaultProxy.refuse], ids=["stall", "blackhole", "refuse"]
)
def test_stop_keeps_its_deadline_whatever_the_broker_does(
    vhost: str, fault_proxy: FaultProxy, fault: Callable[[FaultProxy], None]
) -> None:
    async def scenario() -> None:
        sink = Collector()
        async with linked(through(fault_proxy, vhost), ["q"], sink) as link:
            fault(fault_proxy)
            told = Stopwatch()
            await link.stop(time.monotonic() + 1.0)
            assert told.seconds < 2.5
        fault_proxy.pass_through()

    run(scenario())


def test_the_broker_is_killed_and_started_again(rabbitmq: RabbitMQ, vhost: str) -> None:
    async def scenario() -> None:
        publish(vhost, "q", [b"before"])
        sink = Collector()
        async with LagProbe() as probe, linked(vhost, ["q"], sink) as link:
            await sink.until(lambda: sink.bodies == [b"before"], "a message")
            await asyncio.to_thread(rabbitmq.stop_app)
            await sink.until(lambda: sink.saw("lost"), "the loss")
            await asyncio.to_thread(rabbitmq.start_app)
            await soon_ready(link)
            await asyncio.to_thread(publish, vhost, "q", [b"after"])
            await sink.until(lambda: sink.bodies == [b"before", b"after"], "the next message")
        assert probe.worst < 0.55

    run(scenario())
