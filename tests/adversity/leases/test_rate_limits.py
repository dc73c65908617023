"""Messages that wait for a rate limit: kept past the consumer timeout, and neither lost nor repeated by any fault."""

from __future__ import annotations

import re
import signal
import time

import pika
import pytest

from tests.adversity.leases.conftest import READY, TIMEOUT, MakeWorker
from tests.adversity.leases.tasks import QUEUE
from tests.adversity.leases.test_leases import ON_A_LEASE, queues_of, send
from tests.harness.oracle import Oracle
from tests.harness.rabbitmq import RabbitMQ, vhost_of

#: Seconds around a fault in which a start may not have been acknowledged yet.
_DOUBT = 1.0


@pytest.mark.timeout(300)
@pytest.mark.row("TM16", "CN22")
def test_they_wait_longer_than_the_consumer_timeout(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str, kind: str
) -> None:
    count = int(2.5 * TIMEOUT)
    # One child, so that they start in the order in which they are handed out.
    with make_worker("-c", "1", LEASE_RATE="1/s") as worker:
        worker.wait_for_line(READY)
        sent = time.monotonic_ns()
        ids = send(vhost, [("rated", ())] * count)
        oracle.wait_ids("start", ids, timeout=90)
        impatient.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        assert re.search(ON_A_LEASE, worker.output), "no message was moved, so this shows nothing"
        assert "lost the connection" not in worker.output
        assert "over:" not in worker.output, "the broker closed a channel"
        worker.terminate()
        assert worker.wait() == 0
    oracle.check_started_once(ids)
    starts = oracle.traces("start")
    # A window that grows has two consumers for a moment. From a quorum queue, what they get came once in another order
    # than it was sent.
    received = re.findall(r"Task rated\[(\S+)\] received", worker.output)
    assert [trace.id for trace in starts] == received, "one task's messages keep their order"
    assert sorted(received) == sorted(ids)
    assert received == ids or kind == "quorum"
    # The first may be late itself, but none was handed out before they were sent.
    assert (starts[-1].mono_ns - sent) / 1e9 >= count - 1.5
    assert not any(queues_of(impatient, vhost).values())


@pytest.mark.timeout(300)
@pytest.mark.row("TM16", "CN10")
def test_lost_connections_and_a_killed_master_lose_and_repeat_nothing(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    faults: list[tuple[int, int]] = []
    with make_worker("-c", "2", "-n", "first@here", LEASE_RATE="3/s") as first:
        first.wait_for_line(READY)
        sent = time.monotonic_ns()
        ids = send(vhost, [("rated", ())] * 40)
        for seen in (4, 10):
            oracle.wait_count("start", seen)
            mark, before = first.mark(), time.monotonic_ns()
            rabbitmq.close_all_connections(vhost_of(vhost))
            faults.append((before, time.monotonic_ns()))
            first.wait_for_line("Consuming from", since=mark)
        oracle.wait_count("start", 16)
        before = time.monotonic_ns()
        first.kill()
        faults.append((before, time.monotonic_ns()))
    with make_worker("-c", "2", "-n", "second@here", LEASE_RATE="10/s") as second:
        second.wait_for_line(READY)
        oracle.wait_ids("start", ids, timeout=60)
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        second.terminate()
        assert second.wait() == 0
    traces = oracle.traces("start")
    around = [(begun - _DOUBT * 1e9, over + _DOUBT * 1e9) for begun, over in faults]
    oracle.check_repeats_only({each.id for each in traces if any(low < each.mono_ns < high for low, high in around)})
    killed, _ = faults[-1]
    allowed = (killed - sent) / 1e9 * 3 + 2
    assert sum(each.mono_ns < killed for each in traces) <= allowed, "a reconnect has allowed additional starts"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["quorum"])
def test_a_warm_stop_returns_them_without_charge(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    ids: list[str] = []
    for turn in range(4):
        with make_worker("-c", "1", LEASE_LIMIT="2", LEASE_RATE="1/h") as worker:
            worker.wait_for_line(READY)
            if not turn:
                ids = send(vhost, [("rated", ())] * 8)
            oracle.wait_count("start", turn + 1)
            # A new worker starts one; all others wait in it.
            rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=len(ids) - turn - 1)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0
        rabbitmq.wait_queue(QUEUE, vhost, ready=len(ids) - turn - 1, unacked=0)
    oracle.check_started_once()
    channel = pika.BlockingConnection(pika.URLParameters(vhost)).channel()
    left = [channel.basic_get(QUEUE, auto_ack=True)[1].headers for _ in range(4)]
    channel.connection.close()
    assert {headers["id"] for headers in left} == set(ids) - set(oracle.ids("start"))
    assert [headers.get("x-delivery-count", 0) for headers in left] == [0] * 4, "the queue has counted returns"
