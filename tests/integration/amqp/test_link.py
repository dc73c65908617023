"""BrokerLink against a real RabbitMQ: consuming, settling, windows, queues that make trouble."""

from __future__ import annotations

import asyncio
import logging
import time

import pika
import pytest

from tests.harness.processes import Stopwatch
from tests.harness.rabbitmq import RabbitMQ
from tests.integration.amqp.collector import Collector, LagProbe, channel_to, linked, publish, run, wait_depth
from turbo.amqp.fast_connection import FastConnection, PublishRefused
from turbo.amqp.topology import Queue, task_queue


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.mark.row("CN1", "CN5")
def test_everything_is_delivered_in_order_and_acknowledged(vhost: str, rabbitmq: RabbitMQ) -> None:
    async def scenario() -> None:
        publish(vhost, "q", numbered(3000))
        sink = Collector()
        async with linked(vhost, ["q"], sink) as link:
            await sink.until(lambda: len(sink.bodies) == 3000, "all messages")
            assert sink.bodies == numbered(3000)
            assert link.outstanding == 0
            await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=0, unacked=0, consumers=1)
        assert sink.events[-1][0] == "lost"

    run(scenario())
    wait_depth(vhost, "q", 0)


@pytest.mark.row("CN1", "CN2", "CN3")
def test_no_more_than_the_window_and_the_unsettled_come_back(vhost: str) -> None:
    async def scenario() -> None:
        publish(vhost, "q", numbered(50))
        sink = Collector(ack=False)
        async with linked(vhost, ["q"], sink, prefetch_count=7) as link:
            await sink.until(lambda: len(sink.bodies) == 7, "the window")
            assert link.outstanding == 7
            for tag in (1, 2, 5):
                link.ack(1, tag)
            await sink.until(lambda: len(sink.bodies) == 10, "as many as were settled")

    run(scenario())
    wait_depth(vhost, "q", 47)


def test_an_ack_over_an_open_tag_is_not_held_back(vhost: str, rabbitmq: RabbitMQ) -> None:
    async def scenario() -> None:
        publish(vhost, "q", numbered(10))
        sink = Collector(ack=False)
        async with linked(vhost, ["q"], sink) as link:
            await sink.until(lambda: len(sink.bodies) == 10, "all")
            for tag in range(2, 11):
                link.ack(1, tag)
            await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=0, unacked=1)
            link.ack(1, 1)
            await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=0, unacked=0)
            link.ack(1, 1)
            assert link.stale_acks.wrong == 1
            await asyncio.to_thread(publish, vhost, "q", [b"after"], declare=False)
            await sink.until(lambda: sink.bodies[-1] == b"after", "a message on the same channel")
            assert link.ready, "a second ack for one tag must not reach the broker"
            assert link.epoch == 1

    run(scenario())


@pytest.mark.row("CN9")
def test_reject_and_requeue(vhost: str) -> None:
    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("dead", durable=True)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        queue = Queue("q", queue_arguments=arguments)
        sink = Collector(ack=False)
        async with linked(vhost, [queue], sink) as link:
            publish(vhost, "q", [b"bad", b"again", b"handed back"], declare=False)
            await sink.until(lambda: len(sink.bodies) == 3, "all")
            link.reject(1, 1, False)
            link.reject(1, 2, True)
            link.requeue(1, 3)
            await sink.until(lambda: len(sink.bodies) == 5, "the two that came back")
            assert sorted(sink.bodies[3:]) == [b"again", b"handed back"]
            assert all(delivery[1][1 + delivery[1][0] + 8] == 1 for delivery in sink.raw[3:]), "redelivered"
            sink.ack = True
            for _epoch, _queue, tag in sink.deliveries[3:]:
                link.ack(1, tag)

    run(scenario())
    wait_depth(vhost, "q", 0)
    wait_depth(vhost, "dead", 1)


@pytest.mark.row("CN16")
def test_pause_keeps_tags_good_and_resume_goes_on(vhost: str, rabbitmq: RabbitMQ) -> None:
    async def scenario() -> None:
        publish(vhost, "q", numbered(20))
        sink = Collector(ack=False)
        async with linked(vhost, ["q"], sink, prefetch_count=5) as link:
            await sink.until(lambda: len(sink.bodies) == 5, "the window")
            await link.cancel_consumers()
            for tag in range(1, 6):
                link.ack(1, tag)
            await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=15, unacked=0, consumers=0)
            assert len(sink.bodies) == 5
            sink.ack = True
            await link.resume_consumers()
            await sink.until(lambda: len(sink.bodies) == 20, "the rest")

    run(scenario())


@pytest.mark.row("CN16")
def test_queues_come_and_go_at_run_time(vhost: str, rabbitmq: RabbitMQ) -> None:
    async def scenario() -> None:
        sink = Collector()
        async with linked(vhost, ["one"], sink) as link:
            link.wanted["two"] = task_queue("two")
            await link.apply("two")
            publish(vhost, "two", [b"2"])
            await sink.until(lambda: sink.bodies == [b"2"], "a message of the new queue")
            del link.wanted["one"]
            await link.apply("one")
            await asyncio.to_thread(rabbitmq.wait_queue, "one", vhost, consumers=0)
            publish(vhost, "one", numbered(3))
            del link.wanted["two"]
            await link.apply("two")
            publish(vhost, "two", numbered(4))
            link.wanted["one"] = task_queue("one")
            await link.apply("one")
            await sink.until(lambda: len(sink.bodies) == 4, "what waited in the queue that came back")

    run(scenario())
    wait_depth(vhost, "two", 4)


@pytest.mark.row("CN16")
def test_the_last_of_two_changes_at_the_same_time_holds(vhost: str, rabbitmq: RabbitMQ) -> None:
    """A queue is taken off, or paused, while the broker still answers its declaration."""

    async def scenario() -> None:
        async with linked(vhost, ["one"], Collector()) as link:
            for passes in range(1, 4):
                link.wanted["two"] = task_queue("two")
                adding = asyncio.create_task(link.apply("two"))
                for _ in range(passes):
                    await asyncio.sleep(0)
                del link.wanted["two"]
                await link.apply("two")
                await adding
                assert link.consumed == ["one"]
                await asyncio.to_thread(rabbitmq.wait_queue, "two", vhost, consumers=0)
                link.wanted["two"] = task_queue("two")
                link.wanted.pause("two")
                pausing = asyncio.create_task(link.apply("two"))
                await asyncio.sleep(0)
                link.wanted.resume("two")
                await link.apply("two")
                await pausing
                await asyncio.to_thread(rabbitmq.wait_queue, "two", vhost, consumers=1)
                del link.wanted["two"]
                await link.apply("two")

    run(scenario())


@pytest.mark.row("CN27")
def test_purge_deletes_what_waits(vhost: str) -> None:
    async def scenario() -> None:
        publish(vhost, "a", numbered(5))
        publish(vhost, "b", numbered(6))
        sink = Collector(ack=False)
        async with linked(vhost, ["a", "b"], sink, prefetch_count=1) as link:
            await sink.until(lambda: len(sink.bodies) == 2, "one of each")
            assert await link.purge() == 9

    run(scenario())


class TestWindow:
    """The prefetch window, changed while consuming."""

    @pytest.mark.row("CN2", "CN3")
    @pytest.mark.parametrize("queue_type", [None, "quorum"])
    def test_a_swap_loses_and_doubles_nothing(self, vhost: str, queue_type: str | None) -> None:
        async def scenario() -> None:
            queue = task_queue("q", queue_type=queue_type)
            with channel_to(vhost) as channel:
                channel.queue_declare("q", durable=True, arguments=dict(queue.queue_arguments))
            publish(vhost, "q", numbered(4000), declare=False)
            sink = Collector()
            async with linked(vhost, [queue], sink, prefetch_count=8) as link:
                for count in (16, 32, 8, 64, 128):
                    assert await link.set_prefetch(count)
                await sink.until(lambda: len(set(sink.bodies)) == 4000, "all messages", 100)
                with channel_to(vhost) as channel:
                    facts = channel.queue_declare("q", passive=True).method
                assert facts.consumer_count == 1
                if queue_type is None:
                    assert sorted(sink.bodies, key=int) == numbered(4000)
                assert sink.events == [("up", 1, "")]

        run(scenario())
        wait_depth(vhost, "q", 0)

    def test_the_new_window_holds_and_both_count_meanwhile(self, vhost: str, rabbitmq: RabbitMQ) -> None:
        async def scenario() -> None:
            publish(vhost, "q", numbered(100))
            sink = Collector(ack=False)
            async with linked(vhost, ["q"], sink, prefetch_count=4) as link:
                await sink.until(lambda: len(sink.bodies) == 4, "the first window")
                assert await link.set_prefetch(10)
                await sink.until(lambda: len(sink.bodies) == 14, "both windows")
                for tag in range(1, 5):
                    link.ack(1, tag)
                await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=86, unacked=10)
                assert len(sink.bodies) == 14

        run(scenario())

    def test_never_on_a_single_active_consumer_queue(self, vhost: str) -> None:
        async def scenario() -> None:
            single = Queue("single", queue_arguments={"x-single-active-consumer": True})
            sink = Collector()
            async with linked(vhost, [single, "plain"], sink, prefetch_count=3) as link:
                assert not await link.set_prefetch(50)
                publish(vhost, "single", numbered(200), declare=False)
                publish(vhost, "plain", numbered(200))
                await sink.until(lambda: len(sink.bodies) == 400, "both queues drained")
                assert link.window == 50

        run(scenario())


class TestTrouble:
    """Queues that are not as they should be."""

    @pytest.mark.row("WP25")
    def test_a_queue_declared_otherwise_is_named_and_used_as_it_is(
        self, vhost: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario() -> None:
            with channel_to(vhost) as channel:
                channel.queue_declare("strange", durable=True, arguments={"x-max-priority": 5})
                channel.exchange_declare("odd", "topic", durable=True)
                channel.queue_declare("odd", durable=True)
            sink = Collector()
            async with linked(vhost, ["strange", "odd", "normal"], sink) as link:
                for name in ("strange", "odd", "normal"):
                    publish(vhost, name, [name.encode()], declare=False)
                await sink.until(lambda: len(sink.bodies) == 3, "a message of each")
                assert link.epoch == 1

        with caplog.at_level(logging.ERROR):
            run(scenario())
        errors = [record.getMessage() for record in caplog.records if record.name == "turbo.amqp.topology"]
        assert len(errors) == 2
        assert "'strange'" in errors[0] and "x-max-priority" in errors[0]
        assert "exchange 'odd'" in errors[1]

    @pytest.mark.row("CN28")
    def test_a_deleted_queue_is_declared_and_consumed_again(self, vhost: str) -> None:
        async def scenario() -> None:
            sink = Collector()
            async with linked(vhost, ["q", "other"], sink) as link:
                with channel_to(vhost) as channel:
                    channel.queue_delete("q")
                await sink.until(lambda: sink.saw("cancelled"), "the broker's cancel")
                assert sink.events[-1] == ("cancelled", 1, "q")
                publish(vhost, "other", [b"meanwhile"])

                def back() -> bool:
                    try:
                        publish(vhost, "q", [b"again"], declare=False)
                    except pika.exceptions.UnroutableError:
                        return False
                    return b"again" in sink.bodies

                async with asyncio.timeout(60):
                    while not await asyncio.to_thread(back):
                        await asyncio.sleep(0.1)
                assert b"meanwhile" in sink.bodies
                assert link.epoch == 1

        run(scenario())

    def test_a_queue_that_another_holds_exclusively_stops_no_other(self, vhost: str) -> None:
        async def scenario() -> None:
            sink = Collector()
            with channel_to(vhost) as channel:
                channel.queue_declare("held", durable=True)
                channel.basic_consume("held", lambda *_: None, exclusive=True)
                async with linked(vhost, ["held", "free"], sink, ready=False) as link:
                    assert await link.wait_ready(60)
                    publish(vhost, "free", [b"free"])
                    await sink.until(lambda: sink.bodies == [b"free"], "the other queue")
                    epoch = link.epoch
                    channel.connection.close()
                    publish(vhost, "held", [b"held"])
                    await sink.until(lambda: b"held" in sink.bodies, "the queue that was released")
                    assert link.epoch == epoch

        run(scenario())

    @pytest.mark.row("CN22", "CN11")
    def test_a_channel_that_the_broker_closes_is_reopened_alone(self, vhost: str, rabbitmq: RabbitMQ) -> None:
        """consumer_timeout: the broker closes the channel with 406, the connection stays.

        RabbitMQ 4.3 ends no consumer of a classic queue this way: there a wrong tag closes the channel.
        """
        times_out = rabbitmq.version < (4, 3)

        async def scenario() -> None:
            publish(vhost, "q", [b"slow"])
            sink = Collector(ack=False)
            async with linked(vhost, ["q"], sink) as link:
                connection = link._connection
                if not times_out:
                    await sink.until(lambda: sink.bodies == [b"slow"], "the delivery")
                    link._session._calls.channel.basic_ack(999)
                await sink.until(lambda: sink.saw("lost"), "the timeout")
                assert "PRECONDITION_FAILED" in sink.events[1][2]
                assert ("timed out" if times_out else "unknown delivery tag") in sink.events[1][2]
                sink.ack = True
                await sink.until(lambda: sink.bodies == [b"slow", b"slow"], "the redelivery")
                assert (link.epoch, link._connection) == (2, connection)
                link.ack(1, 1)
                assert link.stale_acks.stale == 1
                await asyncio.to_thread(rabbitmq.wait_queue, "q", vhost, ready=0, unacked=0, consumers=1)

        rabbitmq.evaluate(
            "application:set_env(rabbit, consumer_timeout, 1000), "
            "application:set_env(rabbit, channel_tick_interval, 1000)"
        )
        try:
            run(scenario())
        finally:
            rabbitmq.evaluate(
                "application:set_env(rabbit, consumer_timeout, 1800000), "
                "application:set_env(rabbit, channel_tick_interval, 60000)"
            )


def test_the_connection_that_consumes_cannot_publish(vhost: str) -> None:
    async def scenario() -> None:
        sink = Collector()
        async with linked(vhost, ["q"], sink) as link:
            connection = link._connection
            assert isinstance(connection, FastConnection)
            opened = asyncio.get_running_loop().create_future()
            connection.channel(on_open_callback=opened.set_result)
            channel = await opened
            with pytest.raises(PublishRefused):
                channel.basic_publish("", "q", b"never")
        assert sink.bodies == []

    run(scenario())
    wait_depth(vhost, "q", 0)


def test_a_large_body_arrives_whole_without_blocking_the_loop(vhost: str) -> None:
    body = bytes(range(256)) * (64 * 4096)  # 64 MB

    async def scenario() -> None:
        sink = Collector()
        await asyncio.to_thread(publish, vhost, "q", [body, b"after"])
        async with LagProbe() as probe:
            began = Stopwatch()
            async with linked(vhost, ["q"], sink):
                await sink.until(lambda: len(sink.bodies) == 2, "both messages", 100)
            assert began.seconds < 20
        assert sink.bodies[0] == body
        assert sink.bodies[1] == b"after"
        assert probe.worst < 0.5, f"the loop stood still for {probe.worst:.3f} s"

    run(scenario())


def test_stop_is_idempotent_and_allowed_before_start(vhost: str) -> None:
    async def scenario() -> None:
        sink = Collector()
        async with linked(vhost, ["q"], sink) as link:
            await link.stop(time.monotonic() + 5)
            await link.stop(time.monotonic() + 5)
            assert not link.ready
            assert [event[0] for event in sink.events] == ["up", "lost"]

    run(scenario())


def test_the_window_of_a_queue_that_is_not_what_was_declared_is_left_alone(vhost: str) -> None:
    """It may allow a single active consumer: a second consumer of ours would then take over and get nothing."""

    async def scenario() -> None:
        with channel_to(vhost) as channel:
            channel.queue_declare("q", durable=True, arguments={"x-single-active-consumer": True})
        sink = Collector()
        async with linked(vhost, ["q"], sink, prefetch_count=3) as link:
            assert not await link.set_prefetch(50)
            publish(vhost, "q", numbered(100), declare=False)
            await sink.until(lambda: len(sink.bodies) == 100, "all messages")

    run(scenario())


def test_a_queue_that_is_always_refused_is_tried_ever_more_rarely(vhost: str, rabbitmq: RabbitMQ) -> None:
    """Each refusal closes the channel and voids every tag, so the others must not pay for it again and again."""
    name = vhost.rpartition("/")[2]

    async def scenario() -> None:
        sink = Collector()
        publish(vhost, "secret", [b"s"])
        rabbitmq.evaluate(
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, '
            '<<".*">>, <<".*">>, <<"^(free|amq.*)$">>, <<"tests">>)'
        )
        async with linked(vhost, ["secret", "free"], sink) as link:
            await asyncio.sleep(6)
            assert link.epoch <= 4
            publish(vhost, "free", [b"f"])
            await sink.until(lambda: b"f" in sink.bodies, "the other queue")
        assert b"s" not in sink.bodies

    run(scenario())
