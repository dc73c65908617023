"""Every way to ask a worker to stop: it ends by its deadline, with its exit code, and loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.fault_proxy import FaultProxy
from tests.harness.oracle import Leftovers, Oracle
from tests.harness.processes import Stopwatch
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import TURBO


def _pauses(count: int, seconds: float) -> list[tuple[str, str, tuple[float]]]:
    return [(f"p-{number}", "pause", (seconds,)) for number in range(count)]


def _gated(count: int, gate: Path) -> list[tuple[str, str, tuple[str]]]:
    """Tasks that run until the gate exists."""
    return [(f"p-{number}", "wait_for_file", (str(gate),)) for number in range(count)]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which some tasks wait."""
    return tmp_path / "gate"


@pytest.mark.row("CN1", "CL25", "WP29", "P19")
def test_term_lets_running_tasks_finish_and_hands_back_the_rest(
    make_worker: MakeWorker,
    producer: Producer,
    oracle: Oracle,
    leftovers: Leftovers,
    rabbitmq: RabbitMQ,
    vhost: str,
    gate: Path,
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send(_gated(10, gate))
        oracle.wait_count("start", 2)
        leftovers.watch(worker.children())
        worker.terminate()
        worker.wait_for_line("TERM: warm shutdown")
        gate.touch()
        assert worker.wait() == 0
    leftovers.check()
    assert sorted(oracle.ids("start")) == sorted(oracle.ids("end"))
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 10 - len(oracle.ids("end"))


@pytest.mark.row("P18")
def test_term_to_the_whole_process_group_is_the_same(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, gate: Path
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send(_gated(2, gate))
        oracle.wait_count("start", 2)
        for child in [worker.pid, *(process.pid for process in worker.children())]:
            os.kill(child, signal.SIGTERM)
        gate.touch()
        assert worker.wait() == 0
    assert len(oracle.ids("end")) == 2
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 0


def test_fifty_signals_in_a_burst_are_one_warm_shutdown(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, gate: Path
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send(_gated(2, gate))
        oracle.wait_count("start", 2)
        for _ in range(50):
            worker.send_signal(signal.SIGTERM)
        gate.touch()
        assert worker.wait() == 0
    assert len(oracle.ids("end")) == 2


@pytest.mark.parametrize("signals", [(signal.SIGQUIT,), (signal.SIGINT, signal.SIGINT)], ids=["quit", "int twice"])
def test_a_cold_shutdown_gives_running_late_tasks_back(
    signals: tuple[signal.Signals, ...],
    make_worker: MakeWorker,
    producer: Producer,
    oracle: Oracle,
    leftovers: Leftovers,
    rabbitmq: RabbitMQ,
    vhost: str,
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send(_pauses(4, 300.0))
        oracle.wait_count("start", 2)
        leftovers.watch(worker.children())
        for number in signals:
            mark = worker.mark()
            worker.send_signal(number)
            worker.wait_for_line("shutdown", since=mark)
        assert worker.wait() == 1
    leftovers.check()
    assert not oracle.ids("end")
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 4


def test_a_soft_shutdown_waits_its_time_and_then_turns_cold(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, gate: Path
) -> None:
    with make_worker("-c", "2", "worker.soft_shutdown_timeout=5") as worker:
        worker.wait_for_line(READY)
        producer.send([("short", "wait_for_file", (str(gate),)), ("long", "pause", (300.0,))])
        oracle.wait_count("start", 2)
        worker.send_signal(signal.SIGQUIT)
        worker.wait_for_line("Initiating Soft Shutdown")
        gate.touch()
        assert worker.wait() == 1
    assert oracle.ids("end") == ["short"]
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 1


@pytest.mark.row("P19")
def test_the_shutdown_timeout_ends_a_warm_shutdown(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    with make_worker("-c", "1", "--shutdown-timeout", "1") as worker:
        worker.wait_for_line(READY)
        producer.send(_pauses(1, 300.0))
        oracle.wait_count("start", 1)
        told = Stopwatch()
        worker.terminate()
        assert worker.wait() == 1
        assert told.seconds < 1 + 4
    assert not oracle.ids("end")
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 1


@pytest.mark.row("P19")
@pytest.mark.parametrize("fault", ["stall", "blackhole", "refuse"])
def test_a_broker_that_is_gone_cannot_keep_the_worker_from_ending(
    fault: str, make_worker: MakeWorker, producer: Producer, oracle: Oracle, fault_proxy: FaultProxy, vhost: str
) -> None:
    broker = f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost.rpartition('/')[2]}"
    with make_worker("-c", "2", broker=broker) as worker:
        worker.wait_for_line(READY)
        producer.send(_pauses(2, 1.0))
        oracle.wait_count("start", 2)
        getattr(fault_proxy, fault)()
        if fault == "refuse":
            fault_proxy.rst()
        told = Stopwatch()
        worker.terminate()
        worker.wait()
        assert told.seconds < 15
    assert len(oracle.ids("end")) == 2


def test_term_while_the_worker_starts(make_worker: MakeWorker) -> None:
    with make_worker("-c", "4") as worker:
        worker.wait_for_line("children")
        worker.terminate()
        assert worker.wait() in (0, -signal.SIGTERM)


def test_it_works_as_the_first_process_of_a_container(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, gate: Path
) -> None:
    unshare = shutil.which("unshare")
    assert unshare, "util-linux has no unshare on this machine: apt-get install util-linux"
    if os.geteuid() != 0:
        command = (unshare, "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child=TERM")
    else:
        command = (unshare, "--pid", "--fork", "--mount-proc", "--kill-child=TERM")
    with make_worker("-c", "2", command=(*command, *TURBO)) as worker:
        worker.wait_for_line(READY)
        producer.send(_gated(2, gate))
        oracle.wait_count("start", 2)
        (master,) = worker.children("MainProcess")
        master.terminate()
        worker.wait_for_line("TERM: warm shutdown")
        gate.touch()
        assert worker.wait() == 0
    assert len(oracle.ids("end")) == 2
