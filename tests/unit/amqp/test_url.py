"""Broker URLs: Celery's dialect, and no password in any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.amqp.url import (
    BrokerAddress,
    negotiate_heartbeat,
    parameters,
    parse_broker_url,
    parse_broker_urls,
    redact_url,
)
from turbo.exceptions import ImproperlyConfigured


@pytest.mark.row("WP23")
@pytest.mark.parametrize(
    "url, expected",
    [
        ("amqp://", BrokerAddress()),
        ("pyamqp://", BrokerAddress()),
        ("amqp://localhost//", BrokerAddress()),
        ("amqp://localhost/", BrokerAddress()),
        ("amqp://guest@localhost//", BrokerAddress()),
        ("amqp://h", BrokerAddress("h")),
        ("amqp://h:5673/", BrokerAddress("h", 5673)),
        ("amqp://h/v", BrokerAddress("h", vhost="v")),
        ("amqp://h//v", BrokerAddress("h", vhost="/v")),
        ("amqp://h/%2F", BrokerAddress("h")),
        ("amqp://h/a%2Fb", BrokerAddress("h", vhost="a/b")),
        ("amqp://us%40er:p%3Aw%2F@h:1/v", BrokerAddress("h", 1, "v", "us@er", "p:w/")),
        ("amqps://h/v", BrokerAddress("h", 5671, "v", tls=True)),
        ("amqps://u:p@h:99/v", BrokerAddress("h", 99, "v", "u", "p", tls=True)),
        ("amqp://[::1]:5673/v", BrokerAddress("::1", 5673, "v")),
        ("rabbit.example.org", BrokerAddress("rabbit.example.org")),
        ("amqp://h/v?heartbeat=30&x=", BrokerAddress("h", vhost="v", options={"heartbeat": "30", "x": ""})),
    ],
)
def test_the_dialect(url: str, expected: BrokerAddress) -> None:
    assert parse_broker_url(url) == expected


@pytest.mark.row("WP24")
@pytest.mark.parametrize(
    "value",
    [
        "amqp://a//;amqp://b:1/v",
        ["amqp://a//", "amqp://b:1/v"],
        ("amqp://a//;amqp://b:1/v",),
        " amqp://a// ; amqp://b:1/v ;",
    ],
)
def test_several_brokers(value: object) -> None:
    assert parse_broker_urls(value) == [BrokerAddress("a"), BrokerAddress("b", 1, "v")]


@pytest.mark.parametrize("value", [None, "", [], " ; "])
def test_nothing_is_the_local_broker(value: object) -> None:
    assert parse_broker_urls(value) == [BrokerAddress()]


@pytest.mark.row("WP28")
def test_broker_use_ssl_turns_tls_on_for_all() -> None:
    found = parse_broker_urls("amqp://a;amqp://b:1234;amqps://c", tls=True)
    assert [(each.tls, each.port) for each in found] == [(True, 5671), (True, 1234), (True, 5671)]


@pytest.mark.parametrize(
    "url", ["redis://u:secret@h/0", "sqs://", "amqp://u:secret@h:port/v", "amqp://u:secret@[::1/v"]
)
def test_what_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        parse_broker_url(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("amqp://u:secret@h/v", "amqp://u:**@h/v"),
        ("amqp://u@h/v", "amqp://u@h/v"),
        ("amqp://h:5672/v", "amqp://h:5672/v"),
        ("redis://:secret@h:6379/0", "redis://:**@h:6379/0"),
        ("amqp://u:se@cr/et@h/v", "amqp://u:**@h/v"),
        ("no url at all: a@b", "no url at all: a@b"),
        (
            "tried amqp://u:x1@a/v;amqps://w:x2@b and amqp://y:x3@c, failed",
            "tried amqp://u:**@a/v;amqps://w:**@b and amqp://y:**@c, failed",
        ),
        ("['amqp://u:x1@a//', 'amqp://w:x2@b//']", "['amqp://u:**@a//', 'amqp://w:**@b//']"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redact_url(text) == expected


@given(st.text(alphabet="Zq9:/@;%", min_size=4, max_size=12).filter(lambda text: ";" not in text))
def test_no_password_survives_redaction(password: str) -> None:
    assert f":{password}@" not in redact_url(f"amqp://user:{password}@host/v") or password.strip(":@/%") == ""


def test_no_password_in_repr_and_label() -> None:
    address = parse_broker_url("amqp://u:secret@h/v")
    assert "secret" not in repr(address) + address.label
    assert address.label == "amqp://u:**@h:5672/v"


@pytest.mark.row("WP29")
@pytest.mark.parametrize(
    "wanted, offered, agreed",
    [(120, 60, 60), (30, 60, 30), (0, 60, 60), (120, 0, 120), (0, 0, 0), (9.6, 60, 10)],
)
def test_the_heartbeat_is_the_smaller_of_both_offers(wanted: float, offered: int, agreed: int) -> None:
    assert negotiate_heartbeat(wanted, offered) == agreed
    found = parameters(BrokerAddress(), heartbeat=wanted)
    assert found.heartbeat(None, offered) == agreed


def test_parameters_leave_no_timeout_to_chance() -> None:
    found = parameters(parse_broker_url("amqp://u:p@h:1/v"), socket_timeout=4, stack_timeout=9)
    assert (found.host, found.port, found.virtual_host) == ("h", 1, "v")
    assert (found.credentials.username, found.credentials.password) == ("u", "p")
    assert (found.socket_timeout, found.stack_timeout, found.connection_attempts) == (4, 9, 1)
    assert found.blocked_connection_timeout
    assert found.ssl_options is None
