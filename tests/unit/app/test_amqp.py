"""Which queues a worker consumes from, as receivers of its first signals change it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from turbo import Exchange, Queue, Turbo
from turbo.amqp import topology
from turbo.exceptions import ImproperlyConfigured


@pytest.fixture
def app() -> Iterator[Turbo]:
    with Turbo("shop", set_as_current=False) as made:
        made.conf.task_queues = [Queue("a"), Queue("b", Exchange("x", "topic"), "b.#")]
        yield made


def _names(app: Turbo, *arguments: list[str] | None) -> list[str]:
    return [queue.name for queue in app.worker_queues(*arguments)]


def test_one_more(app: Turbo) -> None:
    app.amqp.queues.select_add("mine@host.dq")
    assert _names(app) == ["a", "b", "mine@host.dq"]
    assert _names(app, ["b"]) == ["b", "mine@host.dq"]
    assert _names(app, None, ["mine@host.dq", "a"]) == ["b"]
    assert app.amqp.queues["mine@host.dq"] == topology.Queue(
        "mine@host.dq", topology.Exchange("celery"), "mine@host.dq"
    )


def test_it_stays_when_a_setting_changes(app: Turbo) -> None:
    app.amqp.queues.select_add(Queue("c", Exchange("y", "fanout")))
    app.amqp.queues.deselect(["a"])
    app.conf.task_acks_late = True
    assert _names(app) == ["b", "c"]
    assert app.amqp.queues["c"].exchange.type == "fanout"
    assert list(app.amqp.queues.consume_from) == ["b", "c"]


def test_what_was_made_known_stays_known_when_a_setting_changes(app: Turbo) -> None:
    app.amqp.queues.add(Queue("c", Exchange("y", "topic", delivery_mode=1), "c.#", alias="see"))
    app.conf.task_acks_late = True
    assert app.amqp.router.route({"queue": "see"}, "t")["queue"].routing_key == "c.#"
    assert app.amqp.router.destination(app.amqp.router.route({"queue": "c"}, "t")).delivery_mode == 1
    assert _names(app) == ["a", "b"]


def test_others_alone(app: Turbo) -> None:
    app.amqp.queues.select(["b", "made up"])
    assert _names(app) == ["b", "made up"]
    app.amqp.queues.deselect("b")
    assert _names(app) == ["made up"]
    app.conf.task_create_missing_queues = False
    with pytest.raises(ImproperlyConfigured, match="made up"):
        app.worker_queues()


def test_it_is_a_mapping(app: Turbo) -> None:
    app.amqp.queues.add("c", exchange="z", exchange_type="direct", routing_key="k")
    assert {**app.amqp.queues}.keys() == {"a", "b", "c"} and len(app.amqp.queues) == 3
    assert "c" in app.amqp.queues and "d" not in app.amqp.queues
    assert _names(app) == ["a", "b"]
    assert app.amqp.router.route({"queue": "c"}, "t")["queue"].routing_key == "k"
