"""Settings that forbid to wait for a broker: the worker finishes what runs, and ends as one that has failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.torture.load import Producer
from tests.harness.fault_proxy import FaultProxy
from tests.harness.oracle import Oracle
from tests.harness.processes import free_port

NO_RETRY = ("--", "broker.connection_retry=false")


def through(proxy: FaultProxy, vhost: str) -> str:
    return f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost.rpartition('/')[2]}"


@pytest.mark.row("CF21", "CN15")
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (NO_RETRY, r"does not wait for the broker any longer: broker_connection_retry=False"),
        (("--", "broker.connection_max_retries=2"), r"does not wait .* broker_connection_max_retries=2"),
    ],
)
def test_a_lost_broker_ends_the_worker_after_its_tasks(
    settings: tuple[str, ...],
    why: str,
    make_worker: MakeWorker,
    producer: Producer,
    oracle: Oracle,
    fault_proxy: FaultProxy,
    vhost: str,
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    with make_worker("-c", "1", *settings, broker=through(fault_proxy, vhost)) as worker:
        worker.wait_for_line(READY)
        producer.send([("slow", "wait_for_file", (str(go),))])
        oracle.wait_count("start", 1)
        fault_proxy.refuse()
        fault_proxy.rst()
        worker.wait_for_line(why)
        worker.wait_for_line("REMOTE: warm shutdown")
        go.touch()
        oracle.wait_ids("end", ["slow"])
        assert worker.wait() == 1


@pytest.mark.row("CF21")
def test_a_broker_that_comes_back_in_time_is_waited_for(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, fault_proxy: FaultProxy, vhost: str
) -> None:
    settings = ("--", "broker.connection_max_retries=1000")
    with make_worker("-c", "1", *settings, broker=through(fault_proxy, vhost)) as worker:
        worker.wait_for_line(READY)
        mark = worker.mark()
        fault_proxy.refuse()
        fault_proxy.rst()
        worker.wait_for_line("Connection to broker lost", since=mark)
        fault_proxy.pass_through()
        worker.wait_for_line("Consuming from", since=mark)
        producer.send([("after", "late", ())])
        oracle.wait_ids("end", ["after"])
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("CN15")
@pytest.mark.parametrize(
    "settings", [NO_RETRY, ("--", "broker.connection_retry_on_startup=false", "broker.connection_timeout=100")]
)
def test_a_broker_that_is_away_at_start_ends_the_worker(settings: tuple[str, ...], make_worker: MakeWorker) -> None:
    with make_worker("-c", "1", *settings, broker=f"amqp://127.0.0.1:{free_port()}") as worker:
        worker.wait_for_line("no broker could be reached at start: .*refused")
        assert worker.wait() == 1
