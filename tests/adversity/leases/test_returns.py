"""Messages that go back without having started: not charged by a quorum queue, and parked when they are due late."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pika
import pytest

from tests.adversity.leases.conftest import READY, TIMEOUT, MakeWorker
from tests.adversity.leases.tasks import QUEUE
from tests.adversity.leases.test_leases import queues_of, send
from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of


def due_in(seconds: float) -> str:
    """An ETA."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def kind() -> str:
    """A delivery limit is a quorum queue's."""
    return "quorum"


@pytest.mark.timeout(300)
def test_a_held_message_survives_any_number_of_clean_restarts(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    ids: list[str] = []
    for turn in range(5):
        with make_worker("-c", "1", LEASE_LIMIT="2") as worker:
            worker.wait_for_line(READY)
            if not turn:
                ids = send(vhost, [("note", ())], eta=due_in(250))
            worker.wait_for_line("Task note.* received")
            worker.terminate()
            assert worker.wait() == 0
        rabbitmq.wait_queue(QUEUE, vhost, ready=1, unacked=0)
    channel = pika.BlockingConnection(pika.URLParameters(vhost)).channel()
    _method, properties, _body = channel.basic_get(QUEUE, auto_ack=True)
    channel.connection.close()
    assert properties.headers["id"] == ids[0]
    assert properties.headers.get("x-delivery-count", 0) == 0, "the queue has counted returns"


@pytest.mark.timeout(300)
def test_a_held_message_survives_any_number_of_lost_connections(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    with make_worker("-c", "1", LEASE_LIMIT="2") as worker:
        worker.wait_for_line(READY)
        (identifier,) = send(vhost, [("note", ())], eta=due_in(45))
        worker.wait_for_line("Task note.* received")
        for _ in range(5):
            mark = worker.mark()
            rabbitmq.close_all_connections(vhost_of(vhost))
            worker.wait_for_line("Consuming from", since=mark)
            worker.wait_for_line("Task note.* received", since=mark)
            # Cut off between the copy's confirm and the acknowledgement of the original, both would be left.
            rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=1)
        oracle.wait_ids("start", [identifier], timeout=90)
    oracle.check_started_once()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_far_eta_waits_in_the_broker_and_not_in_the_worker(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, kind: str
) -> None:
    with make_worker("-c", "1", settings=("worker.eta_park_after=3",)) as worker:
        worker.wait_for_line(READY)
        (identifier,) = send(vhost, [("note", ())], eta=due_in(25))
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        assert identifier not in oracle.ids("start")
        parked = {name: count for name, count in queues_of(rabbitmq, vhost).items() if count}
        assert list(parked.values()) == [1] and next(iter(parked)).startswith("celery_delayed_"), parked
        worker.terminate()
        assert worker.wait() == 0
    with make_worker("-c", "1", settings=("worker.eta_park_after=3",)) as worker:
        due = datetime.now(UTC)
        oracle.wait_ids("start", [identifier])
        assert due
        oracle.wait_ids(f"came by {QUEUE}/{QUEUE}", [identifier])
    oracle.check_started_once()


@pytest.mark.timeout(300)
def test_a_deleted_queue_voids_what_it_held_and_is_consumed_again(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, gate: Path
) -> None:
    with make_worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        ids = send(vhost, [("gated", (str(gate),))])
        oracle.wait_ids("start", ids)
        connection = pika.BlockingConnection(pika.URLParameters(vhost))
        connection.channel().queue_delete(QUEUE)
        connection.close()
        worker.wait_for_line("took back 1 unsettled")
        gate.touch()
        worker.wait_for_line("consuming again")
        more = send(vhost, [("long", (0.0,))])
        oracle.wait_ids("end", [*ids, *more])
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        assert "settled twice" not in worker.output
        assert "lost the connection" not in worker.output
    oracle.check_started_once()


@pytest.mark.timeout(300)
def test_a_timed_out_consumer_is_ended_and_its_running_task_is_not_repeated(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    """Without leases: RabbitMQ 4.3 cancels the consumer, older ones close its channel. Either way the copy is held."""
    timeout = {"LEASE_TIMEOUT": "3000"} if rabbitmq.version >= (3, 12) else {}
    rabbitmq.evaluate("application:set_env(rabbit, channel_tick_interval, 1000)")
    rabbitmq.evaluate("application:set_env(rabbit, consumer_timeout, 3000)")
    try:
        with make_worker("-c", "1", settings=("worker.delivery_lease=0",), **timeout) as worker:
            worker.wait_for_line(READY)
            ids = send(vhost, [("long", (TIMEOUT,))])
            worker.wait_for_line("took back|is over|timeout|over:")
            oracle.wait_ids("end", ids)
            rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
            more = send(vhost, [("long", (0.0,))])
            oracle.wait_ids("end", more)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0
            assert worker.output.count("unknown consumer") <= 1
    finally:
        rabbitmq.evaluate("application:set_env(rabbit, channel_tick_interval, 60000)")
        rabbitmq.evaluate("application:set_env(rabbit, consumer_timeout, 1800000)")
    oracle.check_started_once()
    wait_until("nothing is left", lambda: not any(queues_of(rabbitmq, vhost).values()), 60)
