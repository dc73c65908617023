"""One short iteration of each measure: it runs, checks itself, and yields every figure that it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.contenders import ROOT, Contender, contender
from bench.control import control
from bench.drain import Load, drain
from bench.enqueue import enqueue, senders
from bench.fairness import Mix, fairness
from bench.idle import memory, startup
from bench.latency import latency
from bench.mixed import Flow, mixed
from bench.processes import BenchError
from bench.recover import VICTIMS, recover
from bench.scale import scale
from bench.servers import Servers
from bench.stage import Stage, alternate
from bench.trace import trace
from bench.waits import Waits, waiting_tasks
from bench.workers import Marks

# The first test also builds the peers' environments, for as long as the package index and the machine take, and starts
# the servers. If that fails, so does every test here.
pytestmark = pytest.mark.timeout(1800)

NOOP = Load("noop", (), 400, 4000)
RATE_AND_CPU = {
    "tasks_per_s", "cpu_us_per_task", "master_cpu_us_per_task", "children_cpu_us_per_task", "broker_cpu_us_per_task",
}  # fmt: skip


@pytest.mark.row("RU11")
@pytest.mark.parametrize("peer", ["turbo", "celery", "celery-threads", "dramatiq", "taskiq", "null", "sketch"])
def test_drain_of_every_peer(servers: Servers, peer: str) -> None:
    metrics = drain(Stage(servers), NOOP, contender(peer, 2))

    assert metrics["tasks_per_s"] > 0
    assert set(metrics) in ({"tasks_per_s"}, RATE_AND_CPU)  # without processor times when it was over at once


@pytest.mark.parametrize("peer", ["turbo", "celery"])
@pytest.mark.parametrize("results", ["redis", "rpc"])
def test_drain_with_results(servers: Servers, peer: str, results: str) -> None:
    load = Load("noop_result", (), 200, 1000)

    assert drain(Stage(servers, results=results), load, contender(peer, 2))["tasks_per_s"] > 0


@pytest.mark.parametrize("way", ["adopted", "events", "adaptive", "threads", "requeue"])
def test_drain_in_every_way(servers: Servers, way: str) -> None:
    assert drain(Stage(servers), NOOP, contender(f"turbo+{way}", 2))["tasks_per_s"] > 0


@pytest.mark.parametrize("peer", ["turbo", "celery", "taskiq", "null"])
def test_drain_of_a_quorum_queue(servers: Servers, peer: str) -> None:
    assert drain(Stage(servers, queue_type="quorum"), NOOP, contender(peer, 2))["tasks_per_s"] > 0


@pytest.mark.parametrize("peer", ["turbo", "celery", "dramatiq", "null"])
def test_large_messages(servers: Servers, peer: str) -> None:
    assert drain(Stage(servers), Load("payload", ("x" * 1_000_000,), 5, 5), contender(peer, 2))["tasks_per_s"] > 0


@pytest.mark.parametrize("peer", ["turbo", "celery"])
def test_trace(servers: Servers, peer: str) -> None:
    metrics = trace(Stage(servers), 200, contender(peer, 1))

    assert 0 < metrics["us_per_task"] < metrics["us_with_transport"]


def test_enqueue_in_every_way(servers: Servers) -> None:
    stage = Stage(servers)
    for each in senders([contender("turbo", 1), contender("celery", 1)]):
        metrics = enqueue(stage, 50, each)
        assert metrics["calls_per_s"] > 0 and metrics["cpu_us_per_call"] > 0, each.label
    with pytest.raises(BenchError, match="not dramatiq"):
        senders([contender("dramatiq", 1)])


@pytest.mark.parametrize("peer", ["turbo", "celery"])
def test_control(servers: Servers, peer: str) -> None:
    metrics = control(Stage(servers), 20_000 if peer == "turbo" else 3000, contender(peer, 2))
    assert metrics["pings"] >= 5
    assert 0 < metrics["ping_p50_ms"] <= metrics["ping_p99_ms"]


@pytest.mark.parametrize("peer", ["turbo", "celery", "dramatiq"])
def test_latency(servers: Servers, peer: str) -> None:
    metrics = latency(Stage(servers), (100,), 0.5, contender(peer, 2))

    assert 0 < metrics["p50_ms_at_100"] <= metrics["p99_ms_at_100"]


@pytest.mark.row("RU11")
@pytest.mark.parametrize("peer", ["turbo", "celery"])
def test_memory_and_startup(servers: Servers, peer: str) -> None:
    stage = Stage(servers)

    used = memory(stage, 1, contender(peer, 1))
    assert 5 < used["idle_mib"] < 1000
    assert -50 < used["idle_mib_per_further_child"] < used["idle_mib"]
    assert 0 < used["main_own_mib"] < used["idle_mib"] > used["others_own_mib"] > 0
    assert startup(stage, contender(peer, 1))["seconds_to_first_task"] > 0


@pytest.mark.parametrize("peer", ["turbo", "celery"])
def test_fairness(servers: Servers, peer: str) -> None:
    metrics = fairness(Stage(servers), Mix(tasks=80, one_in=20, slow=0.2), contender(peer, 2))

    # sleeping takes at least as long as it says: nobody beats the ideal by more than the clocks' grain
    assert metrics["of_ideal"] > 0.99


@pytest.mark.parametrize(
    "peer",
    ["turbo", "turbo+threads", "turbo+coroutines", "celery", "celery-threads", "dramatiq+threads", "taskiq+coroutines"],
)
def test_tasks_that_wait(servers: Servers, peer: str) -> None:
    metrics = waiting_tasks(Stage(servers, queue_type="quorum"), Waits(120, 0.005, 0.05), contender(peer, 4))

    assert 0 < metrics["share_of_ideal"] <= 1
    assert metrics["tasks_per_s"] > 0 and metrics["used_mib"] > 5 and metrics["cpu_us_per_task"] > 0


@pytest.mark.parametrize("peer", ["turbo", "celery"])
def test_many_children(servers: Servers, peer: str) -> None:
    metrics = scale(Stage(servers, queue_type="quorum"), 60, contender(peer, 6))

    assert 0 < metrics["seconds_to_all_children"] < 60 and metrics["mib_per_child"] > 1
    assert metrics["master_cpu_us_per_task"] > 0 < metrics["children_cpu_us_per_task"]
    # Six children cannot run more than a hundred tasks of 10 ms a second each.
    assert 0 < metrics["waiting_tasks_per_s"] <= 600


@pytest.mark.parametrize("peer", ["turbo", "celery"])
def test_mixed_load(servers: Servers, peer: str) -> None:
    metrics = mixed(Stage(servers), Flow(rate=100, seconds=0.5, one_in=10, slow=0.1), contender(peer, 2))

    assert 0 < metrics["fast_p50_ms"] <= metrics["fast_p99_ms"] <= metrics["fast_worst_ms"]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("peer", ["turbo+requeue", "celery+requeue"])
def test_a_killed_worker_recovers(servers: Servers, peer: str, victim: str) -> None:
    metrics = recover(Stage(servers, queue_type="quorum"), 1, victim, contender(peer, 2))

    assert metrics["delivery_ratio"] == 1  # acknowledged late, and requeued when a child is lost
    assert 0 < metrics["recover_s"] <= metrics["recover_worst_s"]


def test_a_worker_that_cannot_start_is_a_reading_with_its_own_words(servers: Servers) -> None:
    broken = Contender("turbo", 2, "turbo", extra=("--no-such-option",))

    (reading,) = alternate([broken], 1, lambda each: drain(Stage(servers), NOOP, each))

    assert reading.metrics == {}
    assert "--no-such-option" in reading.error


def test_messages_that_are_not_acknowledged_are_found_out(servers: Servers) -> None:
    stage, who = Stage(servers), contender("null", 1)
    with stage.wire() as wire, Marks() as marks:
        stage.fill(wire, who, stage.template(wire, who, "noop", ()), 3)
        marks.path.write_bytes(bytes(8 * 3))
        with pytest.raises(BenchError, match="3 messages came back"):
            stage.check_drained(wire, who, marks, 3)
        with pytest.raises(BenchError, match="3 tasks ran, 4 were sent"):
            stage.check_drained(wire, who, marks, 4)


def test_copies_of_a_message_differ_in_their_ids_alone(servers: Servers) -> None:
    stage, who = Stage(servers), contender("celery", 1)
    with stage.wire() as wire:
        template = stage.template(wire, who, "noop", ())
        one, two = template.copies(2)

    assert one != two
    assert [len(part) for part in one] == [len(part) for part in two] == [len(template.header), len(template.body)]


def test_the_command_writes_results_and_the_report_reads_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "rings", "--rounds", "2", "--tasks", "2000"]
    subprocess.run([*command, "--output", tmp_path], cwd=ROOT, check=True, capture_output=True, timeout=800)

    (path,) = tmp_path.glob("rings-*.json")
    document = json.loads(path.read_text())
    assert document["medians"]["turbo"]["batch_us"] > 0
    assert len(document["readings"]) == 2
    assert document["machine"]["cores"]


def test_every_measure_runs_once_a_round_until_the_budget_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "all", "--only", "rings,trace", "--rounds", "2", "--with", "none"]
    run = subprocess.run(
        [*command, "--output", tmp_path], cwd=ROOT, check=True, capture_output=True, text=True, timeout=800
    )
    assert run.stdout.index("round 1  turbo") < run.stdout.index("round 2  turbo")
    written = {path.name.partition("-")[0]: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert written.keys() == {"rings", "trace"}
    assert {reading["round"] for reading in written["trace"]["readings"]} == {1, 2}

    run = subprocess.run(
        [*command, "--budget", "12s", "--output", tmp_path / "none"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert "leaves out trace" in run.stderr


def test_an_unknown_peer_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "bench", "drain", "--peers", "turbo,rocket"]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=800)

    assert run.returncode == 2
    assert "rocket" in run.stderr
    with pytest.raises(BenchError, match="dramatiq has no way 'adopted'"):
        contender("dramatiq+adopted", 2)
