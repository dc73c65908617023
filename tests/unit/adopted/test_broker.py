"""Where a Celery app's broker is, read as kombu reads it, and how its certificate is verified."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery

from turbo.adopted.broker import tls
from turbo.adopted.settings import AdoptedSettings
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.app.conf.addresses import whole_broker_urls
from turbo.exceptions import ImproperlyConfigured

OLD = {"broker_port": 1234, "broker_user": "us/er", "broker_password": "p@ss", "broker_vhost": "place"}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment outranks every setting."""
    for name in ("URL", "READ_URL", "WRITE_URL"):
        monkeypatch.delenv(f"CELERY_BROKER_{name}", raising=False)


def read(**settings: Any) -> Any:
    return AdoptedSettings(Celery("proj", set_as_current=False, changes=settings))["broker_read_url"]


@pytest.mark.row("CF21")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"broker_url": "amqp://"},
        {"broker_url": "somewhere"},
        {"broker_url": "amqp://a:b%40@host:99/%2Fv"},
        {"broker_url": "amqp://host//"},
        {"broker_url": "pyamqp://[::1]:5/v"},
        {"broker_host": "somewhere", **OLD},
        {"broker_url": "amqp://host", **OLD},
        {"broker_url": "amqp://only@host/own", **OLD},
        {"broker_url": "amqp://one/a;amqp://two/b"},
        {"broker_url": ["amqp://one/a", "amqp://two/b"]},
        {"broker_url": "amqp://sent", "broker_read_url": "amqp://read"},
    ],
    ids=str,
)
def test_it_is_where_kombu_would_connect_to(settings: dict[str, Any]) -> None:
    celery = Celery("proj", set_as_current=False, changes=settings)
    ours = parse_broker_urls(read(**settings))
    theirs = celery.connection_for_read()
    found = []
    for _ in theirs.alt or [None]:
        info = theirs.info()
        found.append(
            (
                info["hostname"] or "localhost",
                info["port"] or 5672,
                info["userid"] or "guest",
                info["password"] or "guest",
                info["virtual_host"] or "/",
            )
        )
        if theirs.alt:
            theirs.maybe_switch_next()
    assert [(a.host, a.port, a.user, a.password, a.vhost) for a in ours] == found


@pytest.mark.parametrize("url", ["redis://localhost/0", "sqs://", "memory://", "amqp://ok;kafka://no"])
def test_another_kind_of_broker_is_refused_with_those_that_are_spoken(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"amqp://, pyamqp:// or amqps://"):
        parse_broker_urls(read(broker_url=url))


def test_a_transport_named_beside_the_host_counts() -> None:
    with pytest.raises(ImproperlyConfigured, match="'redis' is not supported"):
        parse_broker_urls(read(broker_host="localhost", broker_transport="redis"))
    assert read(broker_host="localhost", broker_transport="pyamqp") == ["pyamqp://localhost/"]


@pytest.mark.parametrize(
    ("given", "urls", "checks"),
    [
        (True, ["amqp://h"], False),
        (None, ["amqps://h"], False),
        ({"ca_certs": "/ca.pem"}, ["amqps://h"], False),
        ({"ca_certs": "/ca.pem", "server_hostname": None}, ["amqps://h"], True),
        ({"ssl_server_hostname": "name"}, ["amqps://h"], True),
        ({"server_hostname": "name", "check_hostname": False, "tls_minimum_version": 771}, ["amqp://h"], False),
    ],
)
def test_the_peer_is_verified_as_py_amqp_does_it(given: Any, urls: list[str], checks: bool) -> None:
    options = tls_options(tls(given, urls))
    assert options is not None
    assert options.check_hostname is checks
    assert options.cert_reqs is ssl.CERT_REQUIRED


def test_no_tls_where_nobody_asks_for_it() -> None:
    assert tls(False, ["amqp://one", "amqps://two"]) is False
    assert whole_broker_urls(None, Celery(set_as_current=False).conf) == ["amqp://localhost/"]
