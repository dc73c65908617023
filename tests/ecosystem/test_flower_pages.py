"""Flower's pages in a browser: their figures are what the tasks of a mixed fleet have written down, and buttons work.

Flower has a Celery app; in ``test_monitors.py`` it has one of turbo's own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ecosystem.fleet import NAME, NODES, OURS, OWN, QUEUE, SHARED, Fleet, own_queue
from tests.ecosystem.monitors import Web, flower
from tests.harness.broker_lanes import lane
from tests.harness.browser import Browser, browser, quoted
from tests.harness.processes import free_port, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer

pytestmark = pytest.mark.timeout(600)

#: Where the picture of the documentation is written if this names a directory.
PICTURES = "TURBO_TEST_PICTURES"
TABS = ("pool", "broker", "queues", "tasks", "limits", "config", "system")


@dataclass
class Scene:
    """A fleet that has run a mixture of tasks, each worker with one more that runs, and Flower."""

    fleet: Fleet
    flower: Web
    #: By kind of worker: the task that it runs.
    running: dict[str, str]


@pytest.fixture(scope="module")
def scene(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """The scene, with a broker of its own, of whose management plugin Flower asks about queues."""
    port = free_port()
    node = RabbitMQ(
        tmp_path_factory.mktemp("rabbitmq"), lane(request.config.option.rabbitmq),
        f"management.tcp.port = {port}\nmanagement.tcp.ip = 127.0.0.1\ncollect_statistics_interval = 1000\n",
        plugins=("rabbitmq_management",),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(node.close)
        node.start()
        redis_server.ensure_running()
        directory = tmp_path_factory.mktemp("pages")
        fleet = Fleet(node, node.new_vhost(), redis_server.new_database(), directory)
        api = f"--broker_api=http://guest:guest@127.0.0.1:{port}/api/"
        web = stack.enter_context(flower(fleet.site, "celery", api))
        stack.enter_context(fleet.working())
        fleet.run_all()
        running = {kind: fleet.site.send("wait", f"waits-{kind}", queue=own_queue(kind)) for kind in NODES}
        wait_until("the last ones run", lambda: all((directory / f"waits-{kind}").exists() for kind in NODES), 60)
        yield Scene(fleet, web, running)


@pytest.fixture(scope="module")
def page(chromedriver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser."""
    with browser(chromedriver, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def _worker_row(scene: Scene, kind: str) -> list[str]:
    """The row that the list of workers must have: name, state, active, processed, failed, succeeded."""
    node, ran = NODES[kind], scene.fleet.ran
    received = ran(node) + 1
    return [node, "Online", "1", str(received), str(ran(node, "fail")), str(ran(node, "give", "retry"))]


@pytest.mark.row("EC3")
def test_the_list_of_workers(scene: Scene, page: Browser) -> None:
    expected = {NODES[kind]: _worker_row(scene, kind) for kind in NODES}
    page.open(f"{scene.flower.root}/workers")
    rows: dict[str, list[str]] = {}

    def shown() -> bool:  # the page loads its figures every second
        rows.update({row[0]: row[:6] for row in page.rows("#workers-table tbody") if len(row) > 5})
        return rows == expected

    try:
        wait_until("the page shows the figures", shown, 60)
    finally:
        assert rows == expected
    totals = {
        "#workers-online": len(NODES),
        "#workers-active": len(NODES),
        "#workers-succeeded": SHARED["give"] + SHARED["retry"] + len(NODES) * OWN["give"],
        "#workers-failed": SHARED["fail"] + len(NODES) * OWN["fail"],
    }
    assert {selector: page.text(selector) for selector in totals} == {key: str(value) for key, value in totals.items()}
    assert page.errors() == []


def test_the_picture_in_the_documentation(scene: Scene, page: Browser, tmp_path: Path) -> None:
    """Rewrites docs/images/flower.png if TURBO_TEST_PICTURES=docs/images is set."""
    page.open(f"{scene.flower.root}/workers")
    page.wait_text("#workers-online", str(len(NODES)))
    page.wait_text("#workers-table tbody", NODES["native"])
    file = Path(os.environ.get(PICTURES) or tmp_path) / "flower.png"
    page.picture(file, 800)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert 5_000 < file.stat().st_size < 100_000


@pytest.mark.row("EC3")
@pytest.mark.parametrize("kind", [*NODES])
def test_the_page_of_a_worker(scene: Scene, page: Browser, kind: str) -> None:
    node, ran = NODES[kind], scene.fleet.ran
    worker = scene.fleet.workers[kind]
    scene.flower.json("/api/workers", refresh="true", workername=node)
    page.open(f"{scene.flower.root}/worker/{quoted(node)}")
    assert page.text("#workername") == node
    for tab in TABS:
        page.click(f"#worker-tab-{tab}")
        wait_until(f"{tab} is shown", lambda t=tab: page.rows(f"#tab-{t}") != [], 60)
        assert all(page.rows(f"#tab-{other}") == [] for other in TABS if other != tab)
        if tab == "pool":
            pool = page.pairs("#tab-pool")
            assert (pool["Max concurrency"], pool["Worker PID"]) == ("2", str(worker.pid))
            processes = {child.pid for child in worker.children()}
            assert {int(pid) for pid in pool["Processes"].strip("[]").split(",")} <= processes
            assert int(pool["Prefetch Count"]) >= 2
        elif tab == "broker":
            broker = page.pairs("#tab-broker")
            assert broker["Hostname"] == "127.0.0.1"
            assert broker["Port"] == str(scene.fleet.site.rabbitmq.port)
        elif tab == "queues":
            assert {row[0] for row in page.rows("#worker-queues")} == {QUEUE, own_queue(kind)}
        elif tab == "tasks":
            assert page.pairs("#tab-tasks")[NAME] == str(ran(node, "give", "fail"))
            (active,) = [row for row in page.rows("#tab-tasks") if row[:1] == ["evented.wait"] and len(row) == 6]
            assert active[4] == f"('waits-{kind}',)"
            assert int(active[3]) in {child.pid for child in worker.children()}
            revoked = {row[0] for row in page.rows("#tab-tasks") if len(row) == 1}
            assert len(revoked - {"UUID"}) == len(scene.fleet.revoked)
        elif tab == "limits":
            assert NAME in {row[0] for row in page.rows("#limits-table")}
        elif tab == "config":
            config = page.pairs("#tab-config")
            assert (config["broker_connection_retry_on_startup"], config["broker_url"][:7]) == ("True", "amqp://")
        elif tab == "system":
            assert {"utime", "stime", "maxrss"} <= page.pairs("#tab-system").keys()
    assert page.errors() == []


@pytest.mark.row("EC3")
@pytest.mark.parametrize("kind", OURS)
def test_the_list_of_tasks(scene: Scene, page: Browser, kind: str) -> None:
    node = NODES[kind]
    page.open(f"{scene.flower.root}/tasks")
    page.fill("#tasks-table_filter input", f"state:FAILURE worker:{node}")
    count = scene.fleet.ran(node, "fail")
    page.wait_text("#tasks-table_info", f"of {count} tasks")
    rows = page.rows("#tasks-table tbody")
    assert len(rows) == min(count, 15)
    for row in rows:
        assert {NAME, "FAILURE", node} <= set(row)
    assert page.errors() == []


@pytest.mark.row("EC3")
@pytest.mark.parametrize("kind", OURS)
def test_the_page_of_a_task(scene: Scene, page: Browser, kind: str) -> None:
    node = NODES[kind]
    task = next(iter(scene.flower.json("/api/tasks", workername=node, state="FAILURE", limit=1)))
    page.open(f"{scene.flower.root}/task/{task}")
    shown = page.text("#task-page")
    for text in (NAME, task, "FAILURE", "('fail',)", "ValueError('fail')", "Traceback (most recent call last)", node):
        assert text in shown


@pytest.mark.row("EC3")
def test_the_page_of_the_broker(scene: Scene, page: Browser) -> None:
    expected = {QUEUE: ["0", "0", "0", str(len(NODES))]}
    for kind in NODES:
        # A task that runs is acknowledged already.
        expected[own_queue(kind)] = ["0", "0", "0", "1"]
    for node in NODES.values():
        scene.flower.json("/api/workers", refresh="true", workername=node)
    shown: dict[str, list[str]] = {}

    def fresh() -> bool:  # the broker counts once a second
        page.open(f"{scene.flower.root}/broker")
        shown.clear()
        shown.update({row[0]: row[1:5] for row in page.rows("#queue-table tbody") if len(row) == 6})
        return shown == expected

    try:
        wait_until("the page shows the queues", fresh, 60)
    finally:
        assert shown == expected


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_buttons_of_a_worker(scene: Scene, page: Browser, kind: str) -> None:
    node, site = NODES[kind], scene.fleet.site
    page.open(f"{scene.flower.root}/worker/{quoted(node)}")
    page.click("#worker-tab-pool")
    page.click("#worker-pool-grow")
    page.wait_text("body", f"Growing '{node}' worker's pool by 1")
    page.click("#worker-tab-queues")
    page.fill("#add-consumer-name", "added")
    page.click("#worker-add-consumer")
    page.wait_text("body", "add consumer added")
    site.wait_state(site.send("give", 1, queue="added"), "SUCCESS")
    page.click("#worker-tab-limits")
    page.fill(f"[aria-label='Rate limit for {NAME}']", "100")
    page.click(f"[id='task-rate-limit-{NAME}']")
    page.wait_text("body", "new rate limit set successfully")
    page.fill(f"[aria-label='Timeout for {NAME}']", "60")
    page.click(f"[id='task-timeout-hard-{NAME}']")
    page.wait_text("body", "time limits set successfully")
    scene.flower.json("/api/workers", refresh="true", workername=node)
    page.open(f"{scene.flower.root}/worker/{quoted(node)}")
    page.click("#worker-tab-pool")
    wait_until("the page shows the pool", lambda: page.pairs("#tab-pool").get("Max concurrency") == "3", 60)
    page.click("#worker-tab-queues")
    page.click("#worker-cancel-consumer-added")
    page.wait_text("body", "no longer consuming from added")
    assert page.errors() == []


@pytest.mark.row("EC4")
@pytest.mark.parametrize("kind", OURS)
def test_the_buttons_that_end_something(scene: Scene, page: Browser, kind: str) -> None:
    node, task = NODES[kind], scene.running[kind]
    page.open(f"{scene.flower.root}/task/{task}")
    page.click("#task-terminate")
    page.wait_text("body", f"Revoked '{task}'")
    scene.fleet.site.wait_state(task, "REVOKED")
    page.open(f"{scene.flower.root}/worker/{quoted(node)}")
    page.click("#worker-group")
    page.click("#worker-shutdown")
    page.wait_text("body", "Shutting down!")
    assert scene.fleet.workers[kind].wait(60) == 0
    page.open(f"{scene.flower.root}/workers")
    wait_until("it is offline", lambda: [node, "Offline"] in [row[:2] for row in page.rows("#workers-table tbody")], 60)
