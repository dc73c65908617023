"""The old manual's video, image and lowpri: three workers, each with one kind of work, and one more that is added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import kombu
import pika
import pytest
from celery.utils import nodenames as celery_nodenames

from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo import Turbo
from turbo.utils.nodenames import worker_direct

#: Routing key to the kind of work that it belongs to.
CALLS = {"video.compress": "video", "image.rotate": "image", "image.crop": "image", "misc.recommend": "lowpri"}


@dataclass(slots=True)
class Sites:
    """The workers by name, a producer, and what was done where."""

    vhost: str
    directory: Path
    oracle: Oracle
    client: Turbo
    stack: ExitStack
    running: list[str] = field(default_factory=list)

    def start(self, *workers: tuple[str, str, dict[str, str]]) -> None:
        """Start workers: name, what -Q says beside the two that all have, environment."""
        started = [
            self.stack.enter_context(
                WorkerProcess(
                    "-A", "tests.integration.routing.sites_app", "-c", "1", "-l", "info", "-n", f"{name}@here",
                    "-Q", f"{queues},shared,news", directory=self.directory,
                    env={"ROUTING_BROKER": self.vhost, **self.oracle.env, **env},
                )
            )
            for name, queues, env in workers
        ]  # fmt: skip
        for worker in started:
            worker.wait_for_line(r"ready\.$", 60)
        self.running += [name for name, _, _ in workers]

    def done(self, *what: str) -> Counter[tuple[str, str]]:
        """How often each worker did each of these."""
        return Counter((trace.event, trace.id) for trace in self.oracle.traces() if trace.id in what)

    def wait(self, what: str, times: int) -> Counter[tuple[str, str]]:
        """Wait until something was done so often; where."""
        wait_until(f"{times} times {what}", lambda: self.done(what).total() >= times, 60)
        return self.done(what)


@pytest.fixture(scope="module")
def sites(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    rabbitmq.ensure_running()
    vhost = rabbitmq.new_vhost()
    directory = tmp_path_factory.mktemp("sites")
    with ExitStack() as stack, Turbo("client", broker=vhost, set_as_current=False) as client:
        client.conf.task_default_exchange = "tasks"
        client.conf.task_default_exchange_type = "topic"
        client.conf.task_default_queue = "lowpri"
        client.conf.task_default_routing_key = "misc.#"
        place = Sites(vhost, directory, Oracle(directory / "oracle"), client, stack)
        place.start(("video", "video", {"ROUTING_PRIORITY": "9"}), ("image", "image", {}), ("lowpri", "lowpri", {}))
        yield place
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


def _send(sites: Sites, tag: str) -> None:
    """One call of each kind: the routing key is all that a caller says."""
    for key in CALLS:
        sites.client.send_task("sites.work", (f"{key} {tag}",), routing_key=key)


@pytest.mark.row("AO1", "AO3", "AO5")
def test_each_worker_gets_its_kind_of_work(sites: Sites) -> None:
    _send(sites, "first")
    for key, worker in CALLS.items():
        assert sites.wait(f"{key} first", 1) == {(worker, f"{key} first"): 1}


@pytest.mark.row("AO14")
def test_the_consumer_of_higher_priority_is_served_first(sites: Sites) -> None:
    for number in range(5):
        what = f"shared {number}"
        sites.client.send_task("sites.work", (what,), queue="shared", exchange="", routing_key="shared")
        assert sites.wait(what, 1) == {("video", what): 1}


@pytest.mark.row("AO4", "CN20")
def test_every_worker_gets_what_is_broadcast(sites: Sites) -> None:
    sites.client.send_task("sites.work", ("news",), exchange="news", exchange_type="fanout", routing_key="")
    assert sites.wait("news", len(sites.running)) == {(name, "news"): 1 for name in sites.running}


@pytest.mark.row("CN19", "CF19")
def test_a_worker_has_a_queue_of_its_own(sites: Sites) -> None:
    for name in ("image", "lowpri"):
        sites.client.send_task("sites.work", (f"for {name}",), queue=worker_direct(f"{name}@here"))
        assert sites.wait(f"for {name}", 1) == {(name, f"for {name}"): 1}
    with kombu.Connection(sites.vhost, heartbeat=0) as connection:
        theirs = celery_nodenames.worker_direct("image@here")(connection.default_channel)
        theirs.declare()  # refused if anything differed


@pytest.mark.row("SG12")
def test_a_receiver_adds_a_queue(sites: Sites) -> None:
    for name in ("image", "lowpri"):
        what = f"more for {name}"
        sites.client.send_task("sites.work", (what,), exchange="", routing_key=f"{name}@here.more", queue="lowpri")
        assert sites.wait(what, 1) == {(name, what): 1}


@pytest.mark.row("AO6")
def test_a_queue_that_is_bound_later_gets_its_work_without_a_change_at_the_producer(sites: Sites) -> None:
    """The broker copies to both; taking the older binding away moves the work for good."""
    sites.start(("crop", "crop", {"ROUTING_EXTRA": "1"}))
    _send(sites, "copied")
    assert sites.wait("image.crop copied", 2) == {("image", "image.crop copied"): 1, ("crop", "image.crop copied"): 1}
    with pika.BlockingConnection(pika.URLParameters(sites.vhost)) as connection:
        channel = connection.channel()
        channel.queue_unbind("image", "tasks", "image.#")
        channel.queue_bind("image", "tasks", "image.rotate")
    _send(sites, "moved")
    sites.client.send_task("sites.work", ("last image",), routing_key="image.rotate")
    # One child, one queue: what comes after the last one has been done already.
    assert sites.wait("last image", 1) == {("image", "last image"): 1}
    assert sites.wait("image.crop moved", 1) == {("crop", "image.crop moved"): 1}
    for key in ("video.compress", "image.rotate", "misc.recommend"):
        assert sites.wait(f"{key} moved", 1) == {(CALLS[key], f"{key} moved"): 1}
