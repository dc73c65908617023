"""Addresses whose parts are settings: Celery's own classes say where they lead."""

from __future__ import annotations

from typing import Any

import celery
import pytest

from turbo.amqp.url import BrokerAddress, parse_broker_urls
from turbo.app.conf.conf import Settings
from turbo.backends.url import RedisAddress, parse_redis_url


def _broker(**settings: Any) -> list[BrokerAddress]:
    return parse_broker_urls(Settings(settings)["broker_write_url"])


@pytest.mark.row("CF21")
@pytest.mark.parametrize(
    ("settings", "host", "port", "user", "password", "vhost"),
    [
        ({"broker_host": "mq", "broker_port": 5673}, "mq", 5673, "guest", "guest", "/"),
        ({"BROKER_HOST": "mq", "BROKER_USER": "me", "BROKER_PASSWORD": "p@ss/word", "BROKER_VHOST": "shop"},
         "mq", 5672, "me", "p@ss/word", "shop"),
        ({"broker_url": "amqp://mq", "broker_user": "me", "broker_password": "x"}, "mq", 5672, "me", "x", "/"),
        ({"broker_url": "amqp://you:y@mq:1/v", "broker_user": "me", "broker_port": 2, "broker_vhost": "w"},
         "mq", 1, "you", "y", "v"),
        ({"broker_write_url": "amqp://mq", "broker_vhost": "/shop"}, "mq", 5672, "guest", "guest", "/shop"),
        ({"broker_port": "5673"}, "localhost", 5673, "guest", "guest", "/"),
    ],
)  # fmt: skip
def test_a_broker_in_parts(
    settings: dict[str, Any], host: str, port: int, user: str, password: str, vhost: str
) -> None:
    (found,) = _broker(**settings)
    assert (found.host, found.port, found.user, found.password, found.vhost) == (host, port, user, password, vhost)


def test_each_of_several_brokers_is_completed() -> None:
    assert [(each.host, each.port) for each in _broker(broker_url="amqp://a;amqp://b:7", broker_port=6)] == [
        ("a", 6), ("b", 7),
    ]  # fmt: skip


def test_what_is_a_url_already_stays_as_it_is() -> None:
    settings = Settings({"broker_url": "amqp://a;b", "result_backend": "redis://c"})
    assert (settings["broker_url"], settings["result_backend"]) == ("amqp://a;b", "redis://c")
    assert Settings({})["broker_url"] is None and Settings({})["result_backend"] is None
    assert Settings({"result_backend": "rpc://", "redis_port": 7})["result_backend"] == "rpc://"


@pytest.mark.row("CF25")
@pytest.mark.parametrize(
    "settings",
    [
        {"result_backend": "redis", "redis_host": "r", "redis_port": 7000, "redis_db": 3},
        {"result_backend": "redis", "redis_password": "p@ss/word", "redis_username": "me"},
        {"result_backend": "redis://r/5", "redis_password": "x", "redis_port": 7000, "redis_db": 3},
        {"result_backend": "redis://r", "redis_db": 3},
        {"result_backend": "redis://you:y@r:1/2", "redis_host": "s", "redis_password": "x", "redis_username": "me"},
        {"result_backend": "redis://", "redis_host": "s"},
    ],
)
def test_a_redis_in_parts_is_where_celery_finds_it(settings: dict[str, Any]) -> None:
    app = celery.Celery("one", set_as_current=False)
    app.conf.update(settings)
    theirs = app.backend.connparams
    ours: RedisAddress = parse_redis_url(Settings(settings)["result_backend"])
    assert (ours.host, ours.port, ours.db) == (theirs["host"], theirs["port"], theirs["db"])
    assert (ours.username, ours.password) == (theirs.get("username"), theirs.get("password"))
