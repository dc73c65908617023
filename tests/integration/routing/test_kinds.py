"""Exchanges of every kind: what a worker declares for them, and where the broker then puts what turbo sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import kombu
import pika
import pytest
from kombu.exceptions import ChannelError
from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues
from pika.adapters.blocking_connection import BlockingChannel

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from tests.integration.routing import kinds_app
from turbo import Turbo

NAMES = [queue.name for queue in kinds_app.QUEUES]


@dataclass(frozen=True, slots=True)
class Place:
    """A virtual host in which a worker has declared everything and has gone."""

    vhost: str
    channel: BlockingChannel
    client: Turbo

    def count(self, queue: str) -> int:
        """Return the number of messages in a queue."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def arrived(self) -> Counter[str]:
        """Take every message out of every queue: how many each had."""
        found: Counter[str] = Counter()
        for name in NAMES:
            while self.channel.basic_get(name, auto_ack=True)[0] is not None:
                found[name] += 1
        return found


@pytest.fixture(scope="module")
def place(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    rabbitmq.ensure_running()
    vhost = rabbitmq.new_vhost()
    env = {"ROUTING_BROKER": vhost}
    options = ("-A", "tests.integration.routing.kinds_app", "-l", "info", "-c", "1")
    with WorkerProcess(*options, directory=tmp_path_factory.mktemp("kinds"), env=env) as worker:
        worker.wait_for_line(r"ready\.$")
        connection = pika.BlockingConnection(pika.URLParameters(vhost))
        # What deletes itself has to have somebody left.
        connection.channel().basic_consume("brief", lambda *_: None, auto_ack=True)
        worker.terminate()
        assert worker.wait() == 0
        with Turbo("client", broker=vhost, set_as_current=False) as client:
            client.conf.task_queues = kinds_app.app.conf.task_queues
            client.conf.task_routes = kinds_app.app.conf.task_routes
            yield Place(vhost, connection.channel(), client)
        connection.close()
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


@pytest.mark.row("AO1", "AO2", "AO3", "AO4")
@pytest.mark.parametrize(
    ("options", "queues"),
    [
        ({"exchange": "colours", "routing_key": "red"}, ["red"]),
        ({"exchange": "colours", "routing_key": "blue"}, ["blue"]),
        ({"exchange": "colours", "routing_key": "reddish"}, []),
        ({"queue": "blue"}, ["blue"]),
        ({"exchange": "topics", "routing_key": "usd.stock"}, ["any stock"]),
        ({"exchange": "topics", "routing_key": "euro.stock.db"}, ["any stock"]),
        ({"exchange": "topics", "routing_key": "stock.nasdaq"}, []),
        ({"exchange": "topics", "routing_key": "video"}, ["video"]),
        ({"exchange": "topics", "routing_key": "video.a.b.c"}, ["video"]),
        ({"exchange": "topics", "routing_key": "image.crop"}, ["one word"]),
        ({"exchange": "topics", "routing_key": "image"}, []),
        ({"exchange": "topics", "routing_key": "image.crop.big"}, []),
        ({"exchange": "topics", "routing_key": "a.b"}, ["exact"]),
        ({"exchange": "all", "routing_key": "whatever"}, ["left", "right"]),
        ({"queue": "left"}, ["left", "right"]),
        ({"exchange": "papers", "routing_key": "", "headers": {"format": "pdf", "colour": "no"}}, ["pdf"]),
        ({"exchange": "papers", "routing_key": "", "headers": {"format": "pdf"}}, []),
        ({"exchange": "papers", "routing_key": "", "headers": {"colour": "yes"}}, ["picture"]),
        ({"exchange": "topics", "routing_key": "picture.of.me"}, ["picture"]),
    ],
)
def test_the_broker_decides_by_what_was_declared(place: Place, options: dict[str, Any], queues: list[str]) -> None:
    wanted = Counter(queues)
    if options.get("exchange") == "topics":
        wanted["everything"] += 1
    # The exchange's kind is the broker's to know; a call need not repeat it.
    kind = {"topics": "topic", "all": "fanout", "papers": "headers"}.get(options.get("exchange", ""))
    place.client.send_task("t", **options, **({"exchange_type": kind} if kind else {}))
    assert place.arrived() == wanted


@pytest.mark.row("AO1", "AO5")
def test_routes_name_exchanges_and_calls_the_key(place: Place) -> None:
    place.client.send_task("feed.rates", routing_key="usd.stock")
    place.client.send_task("paint")
    place.client.send_task("feed.clip", routing_key="video.x")
    assert place.arrived() == {"any stock": 1, "everything": 2, "video": 1, "red": 1}


@pytest.mark.row("AO14", "CF7")
@pytest.mark.parametrize("name", NAMES)
def test_kombu_would_have_declared_the_same(place: Place, name: str) -> None:
    """RabbitMQ refuses to declare again, with anything changed, what exists."""
    asked = next(queue for queue in kinds_app.QUEUES if queue.name == name)
    with kombu.Connection(place.vhost, heartbeat=0) as connection:
        queue = _as_kombu(asked)(connection.default_channel)
        queue.declare()
    assert place.channel.queue_declare(name, passive=True).method.queue == name


def _as_kombu(asked: Any) -> kombu.Queue:
    options = {name: getattr(asked, name) for name in (
        "routing_key", "durable", "exclusive", "auto_delete", "queue_arguments", "binding_arguments", "expires",
        "message_ttl", "max_length", "max_length_bytes", "max_priority")}  # fmt: skip
    bindings = [kombu.binding(_exchange(each.exchange), each.routing_key, each.arguments) for each in asked.bindings]
    # Those without one are at the default exchange of the settings.
    exchange = kombu.Exchange("celery") if asked.exchange is None else _exchange(asked.exchange)
    return kombu.Queue(asked.name, bindings or exchange, **options)


def _exchange(asked: Any) -> kombu.Exchange:
    names = ("type", "durable", "auto_delete", "arguments")
    return kombu.Exchange(asked.name, **{name: getattr(asked, name) for name in names})


@pytest.mark.row("CF22")
def test_the_queues_that_delay_messages_are_of_the_type_in_the_settings(place: Place) -> None:
    with kombu.Connection(place.vhost, heartbeat=0) as connection:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "classic")
        with pytest.raises(ChannelError, match="PRECONDITION_FAILED"):
            declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")


@pytest.mark.row("AO14")
def test_the_arguments_of_a_queue_hold(place: Place) -> None:
    """Its length is limited, and what it drops is in the dead letters."""
    for _ in range(5):
        place.client.send_task("t", queue="limited")
    # The queue drops them when it likes.
    wait_until("the dead letters have come", lambda: place.count("letters") == 3, 60)
    assert place.arrived() == {"limited": 2, "letters": 3}
