"""The broker and its connections fail under load: consumption comes back within 5 s, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.fault_proxy import FaultProxy
from tests.harness.oracle import Oracle, check_queues_settled
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from tests.harness.redis_server import RedisServer

Fault = Callable[[RabbitMQ, FaultProxy], None]


def _stop_app(rabbitmq: RabbitMQ, _proxy: FaultProxy) -> None:
    rabbitmq.stop_app()
    rabbitmq.start_app()


def _close_all(rabbitmq: RabbitMQ, _proxy: FaultProxy) -> None:
    assert rabbitmq.close_all_connections()


def _reset(_rabbitmq: RabbitMQ, proxy: FaultProxy) -> None:
    proxy.rst()


def _half_close(_rabbitmq: RabbitMQ, proxy: FaultProxy) -> None:
    proxy.fin("down")


def _refuse_a_while(_rabbitmq: RabbitMQ, proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.rst()
    proxy.pass_through()


@pytest.mark.row("CN12", "CN11", "P1")
@pytest.mark.parametrize("fault", [_stop_app, _close_all, _reset, _half_close, _refuse_a_while])
def test_consumption_resumes_and_nothing_is_lost(
    fault: Fault,
    make_worker: MakeWorker,
    oracle: Oracle,
    rabbitmq: RabbitMQ,
    fault_proxy: FaultProxy,
    vhost: str,
) -> None:
    broker = f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost.rpartition('/')[2]}"
    count = 1500
    load, said_before = Producer(vhost), rabbitmq.log()
    # Persistent, since the broker itself is restarted in one of these.
    messages = ((f"{kind[0]}-{n}", kind, ()) for n in range(count) for kind in ("early", "late"))
    load.send(messages, delivery_mode=2)
    load.close()
    with make_worker("-c", "2", broker=broker) as worker:
        worker.wait_for_line(READY)
        oracle.wait_count("end", 300)
        mark = worker.mark()
        fault(rabbitmq, fault_proxy)
        accepting, watch = time.monotonic(), Stopwatch()
        already = len(oracle.traces("start"))
        if already < 2 * count:
            worker.wait_for_line("Connection to broker lost", since=mark)
        more = Producer(vhost)
        more.send([("after", "late", ())])
        more.close()
        oracle.wait_ids("end", ["after"], timeout=120)
        resumed = min(t.mono_ns for t in oracle.traces("start")[already:]) / 1e9
        assert resumed - accepting < 5 + watch.stalled, "consumption took more than 5 s to resume"
        ids = [f"{kind}-{number}" for number in range(count) for kind in "el"]
        oracle.wait_ids("end", ids)
        check_queues_settled(rabbitmq, vhost, [QUEUE], consumers=1)
        oracle.check_no_overlap()
        worker.terminate()
        assert worker.wait() == 0
    assert "unknown delivery tag" not in rabbitmq.log().removeprefix(said_before)


@pytest.mark.row("CN11", "P6")
def test_a_task_that_runs_on_is_not_run_twice_at_once(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send([("slow", "wait_for_file", (str(go),))])
        oracle.wait_count("start", 1)
        mark = worker.mark()
        assert rabbitmq.close_all_connections(vhost.rpartition("/")[2])
        worker.wait_for_line("Consuming from", since=mark)
        again = Producer(vhost)
        again.send([("next", "late", ())])
        again.close()
        oracle.wait_ids("end", ["next"])
        assert oracle.ids("start").count("slow") == 1, "the redelivered copy ran beside the first"
        go.touch()
        oracle.wait_ids("end", ["slow"])
        check_queues_settled(rabbitmq, vhost, [QUEUE], consumers=1)
        assert oracle.ids("start").count("slow") == 1
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("P14")
def test_descriptors_and_memory_are_flat_over_many_reconnects(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        master = psutil.Process(worker.pid)
        own = vhost_of(vhost)
        producer.close()
        wait_until("all connections are open", lambda: rabbitmq.connections(own) == 3, 60)
        sizes = []
        for number in range(20):
            mark = worker.mark()
            assert rabbitmq.close_all_connections(own)
            worker.wait_for_line("Consuming from", since=mark)
            again = Producer(vhost)
            again.send([(f"r-{number}", "late", ())])
            again.close()
            oracle.wait_ids("end", [f"r-{number}"])
            wait_until("all connections are open", lambda: rabbitmq.connections(own) == 3, 60)
            if number >= 5:
                sizes.append((master.num_fds(), master.memory_info().rss))
        first, last = sizes[0], sizes[-1]
        # The socket of a connection that was closed may be open for another moment.
        wait_until(
            f"descriptors are as before: {[fds for fds, _ in sizes]}", lambda: master.num_fds() <= first[0] + 1, 60
        )
        assert last[1] - first[1] < 4 * 1024 * 1024, f"memory grows: {[rss >> 10 for _, rss in sizes]} KiB"
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("ST27")
def test_nothing_is_acknowledged_before_its_result_is_stored(
    make_worker: MakeWorker,
    producer: Producer,
    oracle: Oracle,
    rabbitmq: RabbitMQ,
    redis_server: RedisServer,
    vhost: str,
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        redis_server.pause()
        try:
            producer.send((f"a-{n}", "parent", (f"b-{n}",)) for n in range(4))
            oracle.wait_ids("end", [f"a-{n}" for n in range(4)])
            oracle.wait_ids("end", [f"b-{n}" for n in range(4)])
            assert rabbitmq.wait_queue(QUEUE, vhost, unacked=4).ready == 0
        finally:
            redis_server.resume()
        check_queues_settled(rabbitmq, vhost, [QUEUE], consumers=1)
        worker.terminate()
        assert worker.wait() == 0
    oracle.check_no_overlap()
