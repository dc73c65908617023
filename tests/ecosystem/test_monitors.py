"""Flower and exporters show of a mixed fleet what the tasks themselves have written down.

Flower has an app of turbo's own; in ``test_flower_pages.py`` it has Celery's.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.ecosystem.fleet import AGAIN, NAME, NODES, OURS, OWN, QUEUE, SHARED, Fleet, own_queue
from tests.ecosystem.monitors import Metrics, Web, exporter, flower, queue_exporter
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer

pytestmark = pytest.mark.timeout(600)

GIVEN = SHARED["give"] + len(NODES) * OWN["give"]
FAILED = SHARED["fail"] + len(NODES) * OWN["fail"]


@dataclass
class Monitors:
    """The monitors of a fleet."""

    flower: Web
    exporter: Web
    #: The exporter that labels by queue, where it can be installed.
    by_queue: Web | None


@pytest.fixture(scope="module")
def fleet(
    rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Fleet, Monitors]]:
    """A fleet that has run a mixture of tasks, and its monitors, which have heard all of it."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    made = Fleet(rabbitmq, vhost, redis_server.new_database(), tmp_path_factory.mktemp("fleet"))
    with contextlib.ExitStack() as stack:
        by_queue = stack.enter_context(queue_exporter(made.site)) if sys.version_info < (3, 13) else None
        shown = Monitors(
            stack.enter_context(flower(made.site, "turbo")), stack.enter_context(exporter(made.site)), by_queue
        )
        stack.enter_context(made.working())
        made.run_all()
        yield made, shown
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


@pytest.fixture
def shown(fleet: tuple[Fleet, Monitors]) -> Monitors:
    return fleet[1]


@pytest.fixture
def ran(fleet: tuple[Fleet, Monitors]) -> Fleet:
    return fleet[0]


@pytest.mark.row("EC5", "EC16")
@pytest.mark.parametrize("node", [*NODES.values()])
def test_flowers_metrics_are_what_ran(ran: Fleet, shown: Monitors, node: str) -> None:
    def events(kind: str) -> float:
        return shown.flower.sample("flower_events_total", worker=node, type=kind)

    assert ran.ran(node, queue=QUEUE) > 0, "each worker had its share"
    expected = {
        "task-received": ran.ran(node),
        "task-started": ran.ran(node),
        "task-succeeded": ran.ran(node, "give", "retry"),
        "task-failed": ran.ran(node, "fail"),
        "task-retried": ran.ran(node, "retried"),
    }
    for kind, count in expected.items():
        wait_until(f"Flower counts {count} {kind}", lambda k=kind, c=count: events(k) == c, 60)
    # It adds task-received and subtracts task-started: nothing is left, and nothing started before it was received.
    # A retried task may be received elsewhere before its first worker has said that it started.
    assert shown.flower.sample("flower_worker_prefetched_tasks", worker=node, task=NAME) == 0
    runtimes = shown.flower.sample("flower_task_runtime_seconds_count", worker=node)
    assert runtimes == expected["task-succeeded"]


@pytest.mark.row("EC5")
def test_revoked_tasks_are_counted_once(ran: Fleet, shown: Monitors) -> None:
    def counted() -> float:
        return shown.flower.sample("flower_events_total", type="task-revoked")

    wait_until("Flower counts the revoked", lambda: counted() == len(ran.revoked), 60)


@pytest.mark.row("EC3", "EC5")
def test_flowers_list_of_tasks(ran: Fleet, shown: Monitors) -> None:
    listed: Counter[tuple[str, str, str]] = Counter()
    for task in shown.flower.json("/api/tasks", limit=1_000).values():
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
        assert listed[node, "SUCCESS", "('give',)"] == ran.ran(node, "give")
        assert listed[node, "FAILURE", "('fail',)"] == ran.ran(node, "fail")
    # Flower names the worker of which it heard last: of two attempts that may be either's.
    assert sum(listed[node, "SUCCESS", "('retry',)"] for node in NODES.values()) == SHARED["retry"]
    assert sum(listed.values()) == GIVEN + FAILED + SHARED["retry"]


@pytest.mark.row("EC3")
def test_what_flower_knows_of_workers(ran: Fleet, shown: Monitors) -> None:
    def rows() -> dict[str, Any]:
        return {row["hostname"]: row for row in shown.flower.json("/workers", json="true")["data"]}

    wait_until("heartbeats say that nothing runs", lambda: not any(row["active"] for row in rows().values()), 60)
    for kind, node in NODES.items():
        # Offline is a worker whose heartbeat is late.
        wait_until(f"{node} is online", lambda n=node: rows()[n]["status"] is True, 60)
        row = rows()[node]
        assert row["task-received"] == ran.ran(node)
        assert row["task-succeeded"] == ran.ran(node, "give", "retry")
        known = shown.flower.json("/api/workers", refresh="true", workername=node)[node]
        assert {queue["name"] for queue in known["active_queues"]} == {QUEUE, own_queue(kind)}
        assert NAME in known["registered"]
        assert known["stats"]["total"][NAME] == ran.ran(node, "give", "fail")
        assert known["conf"]["broker_url"].startswith("amqp://")


@pytest.mark.row("EC16")
def test_an_exporters_metrics_are_what_ran(ran: Fleet, shown: Monitors) -> None:
    def tasks(state: str, name: str = NAME) -> float:
        return shown.exporter.sample("celery_tasks_by_name", state=state, name=name)

    wait_until("the exporter counts the successes", lambda: tasks("SUCCESS") == GIVEN, 60)
    wait_until("the exporter counts the failures", lambda: tasks("FAILURE") == FAILED, 60)
    wait_until("the exporter counts the retried", lambda: tasks("SUCCESS", AGAIN) == SHARED["retry"], 60)
    assert tasks("RECEIVED") == tasks("STARTED") == tasks("RETRY") == 0
    runtimes, revoked = ("celery_tasks_runtime_seconds_count", {"name": NAME}), ("celery_tasks", {"state": "REVOKED"})
    for (metric, labels), count in ((runtimes, GIVEN), (revoked, len(ran.revoked))):
        wait_until(f"{metric} is {count}", lambda m=metric, s=labels, c=count: shown.exporter.sample(m, **s) == c, 60)


@pytest.fixture(scope="module")
def by_queue(fleet: tuple[Fleet, Monitors]) -> Metrics:
    """What celery-exporter shows when it has heard everything."""
    if (web := fleet[1].by_queue) is None:
        pytest.skip("celery-exporter is for Python up to 3.12")
    totals = {
        "celery_task_received_total": GIVEN + FAILED + 2 * SHARED["retry"],
        "celery_task_succeeded_total": GIVEN + SHARED["retry"],
        "celery_task_failed_total": FAILED,
        "celery_task_revoked_total": len(fleet[0].revoked),
    }
    shown = web.metrics()

    def heard_all() -> bool:
        nonlocal shown
        shown = web.metrics()  # it asks the workers, which takes two seconds
        return {metric: shown.sample(metric) for metric in totals} == totals

    wait_until(f"celery-exporter has counted {totals}", heard_all, 60)
    return shown


@pytest.mark.row("EC16", "EV2", "EV3", "EV4", "EV5")
@pytest.mark.parametrize("kind", [*NODES])
def test_an_exporters_metrics_by_queue(ran: Fleet, by_queue: Metrics, kind: str) -> None:
    """Celery's events do not say the queue: what its worker runs is counted for the default one."""
    node, host = NODES[kind], NODES[kind].partition("@")[2]
    queues = {queue: queue for queue in (QUEUE, own_queue(kind))} if kind in OURS else {QUEUE: None}
    for label, queue in queues.items():
        expected = {
            "celery_task_received_total": ran.ran(node, "give", "fail", queue=queue),
            "celery_task_started_total": ran.ran(node, "give", "fail", queue=queue),
            "celery_task_succeeded_total": ran.ran(node, "give", queue=queue),
            "celery_task_failed_total": ran.ran(node, "fail", queue=queue),
            "celery_task_runtime_count": ran.ran(node, "give", queue=queue),
        }
        labels = {"name": NAME, "hostname": host, "queue_name": label}
        assert {metric: by_queue.sample(metric, **labels) for metric in expected} == expected
    assert by_queue.sample("celery_task_received_total", name=NAME, hostname=host) == ran.ran(node, "give", "fail")
    failed = by_queue.sample("celery_task_failed_total", hostname=host, exception="ValueError")
    assert failed == ran.ran(node, "fail")
    assert by_queue.sample("celery_worker_up", hostname=host) == 1
    assert by_queue.sample("celery_active_worker_count", queue_name=QUEUE) == len(NODES)
    assert by_queue.sample("celery_active_process_count", queue_name=own_queue(kind)) == 2


@pytest.mark.row("EC16", "EV6", "EV7")
def test_an_exporters_metrics_of_retried_and_revoked_tasks(by_queue: Metrics) -> None:
    """The exporter may count two attempts of a task for the worker of which it heard last."""
    assert by_queue.sample("celery_task_received_total", name=AGAIN) == 2 * SHARED["retry"]
    assert by_queue.sample("celery_task_retried_total", name=AGAIN) == SHARED["retry"]
    assert by_queue.sample("celery_task_revoked_total", queue_name=QUEUE) == 5


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_flowers_controls(ran: Fleet, shown: Monitors, kind: str) -> None:
    node, post = NODES[kind], shown.flower.post

    def known(part: str) -> Any:
        return shown.flower.json("/api/workers", refresh="true", workername=node)[node][part]

    assert known("stats")["pool"]["max-concurrency"] == 2
    assert "Growing" in post(f"/api/worker/pool/grow/{node}", n="2")
    wait_until("the pool has grown", lambda: len(known("stats")["pool"]["processes"]) == 4, 60)
    assert "Shrinking" in post(f"/api/worker/pool/shrink/{node}", n="1")
    wait_until("the pool has shrunk", lambda: len(known("stats")["pool"]["processes"]) == 3, 60)

    assert "add consumer" in post(f"/api/worker/queue/add-consumer/{node}", queue="added")
    there = ran.site.send("work", "give", queue="added")
    ran.site.wait_state(there, "SUCCESS")
    assert "added" in {queue["name"] for queue in known("active_queues")}
    assert "no longer consuming" in post(f"/api/worker/queue/cancel-consumer/{node}", queue="added")
    wait_until(
        "it is cancelled", lambda: {queue["name"] for queue in known("active_queues")} == {QUEUE, own_queue(kind)}, 30
    )

    assert "rate limit" in post(f"/api/task/rate-limit/{NAME}", workername=node, ratelimit="100/s")
    assert any("100/s" in task for task in known("registered") if task.startswith(NAME))
    assert "time limit" in post(f"/api/task/timeout/{NAME}", workername=node, hard="60", soft="30")
    before = set(known("stats")["pool"]["processes"])
    assert "Restarting" in post(f"/api/worker/pool/restart/{node}")
    wait_until("every child is another", lambda: not before & set(known("stats")["pool"]["processes"]), 60)


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_flower_revokes_and_terminates(ran: Fleet, shown: Monitors, kind: str) -> None:
    post, site = shown.flower.post, ran.site
    waiting = site.send("give", 1, countdown=600, queue=own_queue(kind))
    assert post(f"/api/task/revoke/{waiting}") == f"Revoked '{waiting}'"
    site.wait_state(waiting, "REVOKED")
    running = site.send("wait", f"flower-waits-{kind}", queue=own_queue(kind))
    wait_until("it runs", (site.directory / f"flower-waits-{kind}").exists, 60)
    assert post(f"/api/task/revoke/{running}", terminate="true", signal="SIGKILL") == f"Revoked '{running}'"
    site.wait_state(running, "REVOKED")
    wait_until("Flower shows it", lambda: shown.flower.json(f"/api/task/info/{running}")["state"] == "REVOKED", 60)


@pytest.mark.row("EC4")
def test_flower_sends_tasks(shown: Monitors) -> None:
    """It knows the tasks of an app of turbo's own."""
    done = shown.flower.post_json(f"/api/task/apply/{NAME}", args=["give"])
    assert (done["state"], done["result"]) == ("SUCCESS", "give")
    sent = shown.flower.post_json("/api/task/async-apply/evented.give", args=[[1, 2]], queue=own_queue("native"))[
        "task-id"
    ]
    wait_until("Flower has its result", lambda: shown.flower.json(f"/api/task/result/{sent}").get("result"), 60)
    assert shown.flower.json(f"/api/task/result/{sent}")["result"] == [1, 2]


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_flower_restarts_the_pool(ran: Fleet, shown: Monitors, kind: str) -> None:
    node = NODES[kind]

    def processes() -> set[int]:
        stats = shown.flower.json("/api/workers", refresh="true", workername=node)[node]["stats"]
        return set(stats["pool"]["processes"])

    before = processes()
    # Flower waits a second for the reply, which may take longer to come: the app is imported anew.
    shown.flower.try_post(f"/api/worker/pool/restart/{node}")
    wait_until("every child is another", lambda: len(processes() - before) == len(before), 60)


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_flowers_autoscale(ran: Fleet, shown: Monitors, kind: str) -> None:
    node, flower = f"scaled@{kind}", shown.flower
    assert "Autoscale not enabled" in flower.refused(f"/api/worker/pool/autoscale/{NODES[kind]}", min="1", max="4")
    with ran.worker(kind, "-Q", "scaled", "--autoscale", "3,1", node=node):
        wait_until("Flower knows it", lambda: node in flower.json("/api/workers", refresh="true", workername=node), 60)
        answer = flower.post(f"/api/worker/pool/autoscale/{node}", min="2", max="4")
        assert answer == f"Autoscaling '{node}' worker (min=2, max=4)"
        scaler = flower.json("/api/workers", refresh="true", workername=node)[node]["stats"]["autoscaler"]
        assert (scaler["min"], scaler["max"]) == (2, 4)


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_flower_shuts_a_worker_down(ran: Fleet, shown: Monitors, kind: str) -> None:
    node = NODES[kind]
    assert shown.flower.post(f"/api/worker/shutdown/{node}") == "Shutting down!"
    assert ran.workers[kind].wait(60) == 0
    wait_until("Flower shows it as offline", lambda: shown.flower.sample("flower_worker_online", worker=node) == 0, 60)
