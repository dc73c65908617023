"""Task events of a worker: switched on and off, in batches, over an outage, until a cold shutdown."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from tests.harness.fault_proxy import FaultProxy
from tests.harness.monitor import Monitor
from tests.harness.processes import wait_until
from tests.integration.events.conftest import NODE, READY, Site

WHOLE = ("task-received", "task-started", "task-succeeded")


@pytest.fixture(params=["native", "adopted"])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Iterator[Site]:
    """A site of turbo's."""
    return make_site(request.param)  # type: ignore[return-value]


@pytest.mark.row("EV1", "RC21", "CF18")
def test_events_are_sent_while_they_are_on(site: Site) -> None:
    with site.watched("-c", "1", "--heartbeat-interval", "1") as (monitor, _worker):
        before = site.send("give", 1)
        site.wait_state(before, "SUCCESS")
        # Its result is stored before its message is settled, which is when its end would be told.
        wait_until("the worker has done with it", lambda: site.ask("active") == [], 60)
        assert site.ask("enable_events") == {"ok": "task events enabled"}
        assert site.ask("enable_events") == {"ok": "task events already enabled"}
        during = site.send("give", "x")
        assert monitor.wait_types(during, *WHOLE)[-1]["result"] == "'x'"
        assert site.ask("disable_events") == {"ok": "task events disabled"}
        after = site.send("give", 3)
        site.wait_state(after, "SUCCESS")
        # Heartbeats come either way; what would come of the last task comes before them.
        monitor.wait("worker-heartbeat", after=len(monitor.heard), node=NODE)
        monitor.wait("worker-heartbeat", after=len(monitor.heard), node=NODE)
        assert monitor.types_of(before) == monitor.types_of(after) == []


@pytest.mark.row("EV1")
def test_one_that_begins_before_they_are_on_is_told_whole(site: Site) -> None:
    with site.watched("-c", "1") as (monitor, _worker):
        site.send("progress", 0)
        running, waiting = site.send("wait", "begun"), site.send("give", 2)
        wait_until("the first runs", lambda: [row["id"] for row in site.ask("active")] == [running], 60)
        site.ask("enable_events")
        site.ask("revoke", task_id=running, terminate=True)
        monitor.wait_types(running, "task-revoked")
        monitor.wait_types(waiting, *WHOLE)


@pytest.mark.row("EV13", "CF26")
@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_they_travel_in_batches(make_site: Callable[[str], Site], serializer: str) -> None:
    site = make_site("native")
    site.client.conf.event_serializer = serializer
    with pika.BlockingConnection(pika.URLParameters(site.vhost)) as connection:
        channel = connection.channel()
        channel.exchange_declare("celeryev", "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "celeryev", "task.#")
        with site.watched("-c", "1", "-E", env={"EVENT_SERIALIZER": serializer}) as (monitor, worker):
            sent = [site.send("give", number) for number in range(200)]
            monitor.wait_types(sent[-1], *WHOLE)
            worker.terminate()
            assert worker.wait(60) == 0
            for identifier in sent:
                monitor.wait_types(identifier, *WHOLE)
        bodies = []
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            method, properties, body = got
            assert method.routing_key == "task.multi"
            assert properties.headers == {"hostname": NODE}
            assert (properties.delivery_mode, properties.content_encoding) == (1, "utf-8")
            bodies.append((properties.content_type, body))
        assert {kind for kind, _ in bodies} == {f"application/{'json' if serializer == 'json' else 'x-yaml'}"}
        assert len(bodies) < 200
        if serializer == "json":
            assert sum(len(json.loads(body)) for _, body in bodies) == 600


@pytest.mark.row("EV14")
def test_they_wait_for_the_broker(site: Site, fault_proxy: FaultProxy) -> None:
    write = site.vhost.replace(f":{site.rabbitmq.port}", f":{fault_proxy.port}")
    with site.watched("-c", "2", "-E", env={"CELERY_BROKER_WRITE_URL": write}) as (monitor, worker):
        first = site.send("give", 0)
        monitor.wait_types(first, *WHOLE)
        since = worker.mark()
        fault_proxy.refuse()
        fault_proxy.rst()
        worker.wait_for_line("(?i)connection to the broker|broker", 60, since=since)
        sent = [site.send("give", number) for number in range(100)]
        for identifier in sent:
            site.wait_state(identifier, "SUCCESS")
        assert not any(monitor.of(identifier) for identifier in sent)
        fault_proxy.pass_through()
        for identifier in sent:
            monitor.wait_types(identifier, *WHOLE)
        assert "events are dropped" not in worker.output


@pytest.mark.row("EV9")
def test_a_cold_shutdown_cancels(site: Site) -> None:
    with site.watched("-c", "1", "-E") as (monitor, worker):
        running = site.send("wait", "runs")
        # The worker may hear of the start after the body has begun.
        monitor.wait_types(running, "task-received", "task-started")
        worker.send_signal(signal.SIGQUIT)
        worker.wait(60)
        monitor.wait_types(running, "task-received", "task-started", "task-cancelled")
        monitor.wait("worker-offline", node=NODE)


@pytest.mark.row("EV1", "EV17")
def test_without_heartbeats_and_remote_control_tasks_are_told(make_site: Callable[[str], Site]) -> None:
    site = make_site("native")
    options = ("-c", "1", "-E", "--without-heartbeat", "--", "enable_remote_control=no")
    with Monitor(site.client) as monitor, site.worker(*options) as worker:
        worker.wait_for_line(READY, 60)
        monitor.wait_types(site.send("give", 1), *WHOLE)
        kinds: set[Any] = {event["type"].split("-")[0] for event in monitor.heard}
        assert kinds == {"task"}
