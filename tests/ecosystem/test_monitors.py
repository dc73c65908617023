"""Flower and an exporter show of a mixed fleet what the tasks themselves have written down."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.ecosystem.monitors import Web, exporter, flower
from tests.harness.processes import wait_until
from tests.integration.events.conftest import READY, Site, make_site

__all__ = ["make_site"]

pytestmark = pytest.mark.timeout(300)

#: A worker of each kind: its node name.
NODES = {"celery": "celery@here", "adopted": "adopted@here", "native": "native@here"}
OURS = [NODES["adopted"], NODES["native"]]
COUNTS = {"give": 120, "fail": 60, "retry": 30}
NAME, AGAIN = "evented.work", "evented.again"


@dataclass
class Fleet:
    """One broker with three workers, and both monitors."""

    site: Site
    flower: Web
    exporter: Web
    #: How many runs of each worker ended in each way, as the tasks have written it down.
    runs: Counter[tuple[str, str]]
    revoked: int

    def ran(self, node: str, *hows: str) -> int:
        return sum(self.runs[node, how] for how in hows or ("give", "fail", "retry", "retried"))


@pytest.fixture(scope="module")
def fleet(make_site: Callable[[str], Site]) -> Iterator[Fleet]:
    """A fleet that has run a mixture of tasks."""
    sites = {kind: make_site(kind) for kind in NODES}
    site = sites["native"]
    record = site.directory / "record"
    with contextlib.ExitStack() as stack:
        web = stack.enter_context(flower(site))
        metrics = stack.enter_context(exporter(site))
        for kind, node in NODES.items():
            env = {"EVENTED_BROKER": site.vhost, "EVENTED_BACKEND": site.env["EVENTED_BACKEND"]}
            worker = sites[kind].worker("-c", "2", "-E", name=node, env={**env, "EVENTED_RECORD": str(record)})
            stack.enter_context(worker).wait_for_line(READY, 60)
        revoked = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(5)]
        site.client.control.revoke(revoked, reply=True, timeout=20, limit=3)
        for how, count in COUNTS.items():
            for _ in range(count):
                site.send("again" if how == "retry" else "work", how)
        for identifier in revoked:
            site.send("work", "never", task_id=identifier)
        total = sum(COUNTS.values()) + COUNTS["retry"]
        wait_until("all ran", lambda: record.exists() and len(record.read_text().splitlines()) >= total, 120)
        runs = Counter(tuple(line.split(" ")) for line in record.read_text().splitlines())
        yield Fleet(site, web, metrics, runs, len(revoked))  # type: ignore[arg-type]


def _events(fleet: Fleet, node: str, kind: str) -> float:
    return fleet.flower.sample("flower_events_total", worker=node, type=kind)


@pytest.mark.row("EC5", "EC16")
@pytest.mark.parametrize("node", [*NODES.values()])
def test_flowers_metrics_are_what_ran(fleet: Fleet, node: str) -> None:
    assert fleet.ran(node) > 0, "each worker had its share"
    expected = {
        "task-received": fleet.ran(node),
        "task-started": fleet.ran(node),
        "task-succeeded": fleet.ran(node, "give", "retry"),
        "task-failed": fleet.ran(node, "fail"),
        "task-retried": fleet.ran(node, "retried"),
    }
    for kind, count in expected.items():
        wait_until(f"Flower counts {count} {kind}", lambda k=kind, c=count: _events(fleet, node, k) == c, 30)
    # It adds task-received and subtracts task-started: nothing is left, and nothing started before it was received.
    # A retried task may be received elsewhere before its first worker has said that it started.
    assert fleet.flower.sample("flower_worker_prefetched_tasks", worker=node, task=NAME) == 0
    runtimes = fleet.flower.sample("flower_task_runtime_seconds_count", worker=node)
    assert runtimes == expected["task-succeeded"]


@pytest.mark.row("EC5")
def test_revoked_tasks_are_counted_once(fleet: Fleet) -> None:
    def counted() -> float:
        return sum(_events(fleet, node, "task-revoked") for node in NODES.values())

    wait_until("Flower counts the revoked", lambda: counted() == fleet.revoked, 30)


@pytest.mark.row("EC3", "EC5")
def test_flowers_list_of_tasks(fleet: Fleet) -> None:
    listed: Counter[tuple[str, str, str]] = Counter()
    for task in fleet.flower.json("/api/tasks", limit=1_000).values():
        if task["state"] == "REVOKED":
            continue
        listed[task["worker"], task["state"], task["args"]] += 1
        assert task["name"] == (AGAIN if "retry" in task["args"] else NAME)
        if task["state"] == "FAILURE":
            assert task["exception"] == "ValueError('fail')"
            assert task["traceback"].rstrip().endswith("ValueError: fail")
        else:
            assert f"({task['result']},)" == task["args"]
            assert task["runtime"] > 0
    for node in NODES.values():
        assert listed[node, "SUCCESS", "('give',)"] == fleet.ran(node, "give")
        assert listed[node, "FAILURE", "('fail',)"] == fleet.ran(node, "fail")
    # Flower names the worker of which it heard last: of two attempts that may be either's.
    assert sum(listed[node, "SUCCESS", "('retry',)"] for node in NODES.values()) == COUNTS["retry"]
    assert sum(listed.values()) == sum(COUNTS.values())


@pytest.mark.row("EC3")
def test_flowers_pages(fleet: Fleet) -> None:
    workers: dict[str, Any] = {}

    def all_answered() -> bool:
        workers.update(fleet.flower.json("/api/workers", refresh="true"))
        parts = ("stats", "active_queues", "registered", "conf")
        return all(part in workers.get(node, {}) for node in NODES.values() for part in parts)

    wait_until("all workers have answered Flower", all_answered, 60)
    assert workers.keys() == set(NODES.values())
    rows = {row["hostname"]: row for row in fleet.flower.json("/workers", json="true")["data"]}
    for node in NODES.values():
        assert rows[node]["status"] is True
        assert rows[node]["task-received"] == fleet.ran(node)
        assert rows[node]["task-succeeded"] == fleet.ran(node, "give", "retry")
        assert rows[node]["active"] == 0
        assert workers[node]["active_queues"][0]["name"] == "celery"
        assert NAME in workers[node]["registered"]
        page = fleet.flower.get(f"/worker/{node}")
        for word in (node, "Max concurrency", "Prefetch Count", NAME):
            assert word in page
    for path in ("/", "/tasks", "/broker"):
        assert "Flower" in fleet.flower.get(path)
    task = next(iter(fleet.flower.json("/api/tasks", workername=NODES["native"], state="FAILURE", limit=1)))
    page = fleet.flower.get(f"/task/{task}")
    for word in (task, NAME, "ValueError", NODES["native"]):
        assert word in page


@pytest.mark.row("EC16")
def test_an_exporters_metrics_are_what_ran(fleet: Fleet) -> None:
    def tasks(state: str, name: str = NAME) -> float:
        return fleet.exporter.sample("celery_tasks_by_name", state=state, name=name)

    wait_until("the exporter counts the successes", lambda: tasks("SUCCESS") == COUNTS["give"], 30)
    wait_until("the exporter counts the failures", lambda: tasks("FAILURE") == COUNTS["fail"], 30)
    wait_until("the exporter counts the retried", lambda: tasks("SUCCESS", AGAIN) == COUNTS["retry"], 30)
    assert tasks("RECEIVED") == tasks("STARTED") == tasks("RETRY") == 0
    assert fleet.exporter.sample("celery_tasks_runtime_seconds_count", name=NAME) == COUNTS["give"]
    assert fleet.exporter.sample("celery_tasks", state="REVOKED") == fleet.revoked


@pytest.mark.row("EC4")
@pytest.mark.parametrize("node", OURS)
def test_flowers_controls(fleet: Fleet, node: str) -> None:
    post = fleet.flower.post
    wait_until("Flower knows the worker", lambda: node in fleet.flower.json("/api/workers", refresh="true"), 60)
    assert "rate limit" in post(f"/api/task/rate-limit/{NAME}", workername=node, ratelimit="100/s")
    assert "time limit" in post(f"/api/task/timeout/{NAME}", workername=node, hard="60")
    assert "Growing" in post(f"/api/worker/pool/grow/{node}", n="1")
    assert "Shrinking" in post(f"/api/worker/pool/shrink/{node}", n="1")
    waiting = fleet.site.send("give", 1, countdown=600)
    assert post(f"/api/task/revoke/{waiting}") == f"Revoked '{waiting}'"
    fleet.site.wait_state(waiting, "REVOKED")


@pytest.mark.row("EC4")
@pytest.mark.parametrize("node", OURS)
def test_flower_shuts_a_worker_down(fleet: Fleet, node: str) -> None:
    assert fleet.flower.post(f"/api/worker/shutdown/{node}") == "Shutting down!"
    wait_until("Flower shows it as offline", lambda: fleet.flower.sample("flower_worker_online", worker=node) == 0, 60)
