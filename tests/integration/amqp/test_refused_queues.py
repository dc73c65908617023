"""Queues that the broker refuses, or makes of another type: named in one line, and no other queue suffers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import amqp
import celery
import kombu
import pytest

from tests.harness.rabbitmq import RabbitMQ, vhost_of
from tests.integration.amqp.collector import Collector, channel_to, come_to, linked, publish, run
from turbo.amqp.topology import Queue, queue_arguments, task_queue

EVERYTHING = ".*"
QUORUM = {"x-queue-type": "quorum"}


def allow(rabbitmq: RabbitMQ, vhost: str, *, configure: str = EVERYTHING, read: str = EVERYTHING) -> None:
    """Set the user's permissions, as regular expressions of names."""
    rabbitmq.evaluate(
        f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{vhost_of(vhost)}">>, '
        f'<<"{configure}">>, <<".*">>, <<"{read}">>, <<"tests">>)'
    )


def lines_about(caplog: pytest.LogCaptureFixture, queue: str) -> list[str]:
    """The warnings and errors that name a queue."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno > logging.INFO and repr(queue) in record.getMessage()
    ]


@pytest.mark.parametrize("right", ["configure", "read"])
def test_a_refused_queue_is_named_once_and_the_others_are_consumed(
    right: str, vhost: str, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        if right == "read":
            publish(vhost, "secret", [b"s"])
        allow(rabbitmq, vhost, **{right: "^(free|amq.*)$"})
        sink = Collector()
        async with linked(vhost, ["secret", "free"], sink, ready=False) as link:
            publish(vhost, "free", [b"f"])
            await sink.until(lambda: b"f" in sink.bodies, "the other queue")
            await come_to(lambda: link.ready and link.refusals.names == ["secret"], "the refusal")
            assert link.consumed == ["free"]

    run(scenario())
    (line,) = lines_about(caplog, "secret")
    assert "ACCESS_REFUSED" in line and "set_permissions" in line


def test_a_link_without_a_queue_that_works_is_not_ready_until_there_is_one(
    vhost: str, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        allow(rabbitmq, vhost, configure="^$")
        sink = Collector()
        async with linked(vhost, ["q"], sink, ready=False) as link:
            await come_to(lambda: link.refusals.names == ["q"], "the refusal")
            assert not await link.wait_ready(2) and link.consumed == []
            allow(rabbitmq, vhost)
            assert await link.wait_ready(60)
            assert link.refusals.names == [] and link.consumed == ["q"]
            allow(rabbitmq, vhost, configure="^$")
            with channel_to(vhost) as channel:
                allow(rabbitmq, vhost)
                channel.queue_delete("q")
            await sink.until(lambda: sink.saw("cancelled"), "the broker's cancel")
            assert await link.wait_ready(60)

    run(scenario())
    assert "is consumed now, after" in caplog.text


@pytest.fixture
def quorum_vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A virtual host in which a queue declared without a type is a quorum queue."""
    url = rabbitmq.new_vhost("quorum")
    yield url
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(url)


@pytest.mark.row("CN25")
@pytest.mark.parametrize("by", ["queue", "vhost"])
def test_arguments_that_a_quorum_queue_cannot_have_are_named_and_left_out(
    by: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    url = request.getfixturevalue("vhost" if by == "queue" else "quorum_vhost")
    arguments = queue_arguments({"x-queue-mode": "lazy", **(QUORUM if by == "queue" else {})}, max_priority=5)

    async def scenario() -> None:
        sink = Collector()
        async with linked(url, [Queue("q", queue_arguments=arguments)], sink) as link:
            publish(url, "q", [b"m"], declare=False)
            await sink.until(lambda: sink.bodies == [b"m"], "a message")
            assert link.refusals.is_quorum("q")

    run(scenario())
    (line,) = lines_about(caplog, "q")
    assert "x-max-priority" in line and "x-queue-mode" in line and "declared without" in line


@pytest.mark.parametrize("by", ["queue", "vhost"])
def test_kombu_is_refused_what_turbo_leaves_out_until_the_queue_is_there(
    by: str, request: pytest.FixtureRequest
) -> None:
    """What tasks and clients of a Celery app send is declared by kombu, also in turbo's children."""
    url = request.getfixturevalue("vhost" if by == "queue" else "quorum_vhost")
    arguments = queue_arguments(QUORUM if by == "queue" else {}, max_priority=5)

    async def scenario() -> None:
        sink = Collector()
        with celery.Celery(broker=url, set_as_current=False) as app:
            app.conf.task_queues = [kombu.Queue("q", queue_arguments=arguments)]
            with pytest.raises(amqp.exceptions.PreconditionFailed, match="invalid arg 'x-max-priority'"):
                app.send_task("t", queue="q", retry=False)
            async with linked(url, [Queue("q", queue_arguments=arguments)], sink):
                app.send_task("t", queue="q", retry=False)
                await sink.until(lambda: len(sink.bodies) == 1, "a message")

    run(scenario())


def test_the_type_that_the_virtual_host_gives_is_recognised(
    vhost: str, quorum_vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        for url, expected in ((vhost, False), (quorum_vhost, True)):
            for _ in ("made by us", "there already"):
                async with linked(url, ["q"], Collector()) as link:
                    assert link.refusals.is_quorum(*link.consumed) is expected
        with channel_to(vhost) as channel:
            channel.queue_declare("declared-otherwise", durable=True, arguments=QUORUM)
        async with linked(vhost, ["declared-otherwise", task_queue("new", queue_type="quorum")], Collector()) as link:
            assert link.refusals.is_quorum("declared-otherwise", "new")

    run(scenario())
    assert lines_about(caplog, "q") == []


def test_a_queue_that_closes_the_connection_stops_no_other(
    tmp_path: Path, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ 4 may forbid transient queues that are not exclusive, and closes the connection that declares one."""
    strict = RabbitMQ(tmp_path / "strict", rabbitmq.lane, "deprecated_features.permit.transient_nonexcl_queues = false")
    forbids = rabbitmq.version >= (4, 0)

    async def scenario(url: str) -> None:
        sink = Collector()
        transient = Queue("transient", durable=False)
        exclusive = Queue("exclusive", durable=False, exclusive=True, auto_delete=True)
        async with linked(url, [transient, exclusive, "free"], sink, ready=False) as link:
            publish(url, "free", [b"f"])
            await sink.until(lambda: b"f" in sink.bodies, "the other queue")
            assert await link.wait_ready(60)
            assert link.consumed == (["exclusive", "free"] if forbids else ["transient", "exclusive", "free"])

    try:
        if forbids:
            strict.start()
        run(scenario(strict.url if forbids else rabbitmq.url))
    finally:
        strict.close()
    lines = lines_about(caplog, "transient")
    assert len(lines) == forbids
    assert all("make the queue durable or exclusive" in line for line in lines)
