"""The dialect of ``result_backend``."""

from __future__ import annotations

import re
import ssl

import pytest

from tests.unit.backends.store_contract import FakePublisher
from turbo.app.conf.conf import Settings
from turbo.backends.disabled import DisabledStore
from turbo.backends.open_reader import open_reader
from turbo.backends.open_store import open_store, store_settings
from turbo.backends.redis.store import RedisStore
from turbo.backends.rpc.store import RpcStore
from turbo.backends.store import StoreSettings
from turbo.backends.url import RedisAddress, TlsOptions, parse_redis_url, redact_backend_url, store_kind
from turbo.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress()),
        ("redis://h", RedisAddress("h")),
        ("redis://h:1/2", RedisAddress("h", 1, 2)),
        ("redis://h:1//2", RedisAddress("h", 1, 2)),
        ("redis://:p%40ss@h/0", RedisAddress("h", password="p@ss")),
        ("redis://u:p@h?db=4", RedisAddress("h", db=4, username="u", password="p")),
        ("redis://h?socket_timeout=1.5&max_connections=3", RedisAddress("h", socket_timeout=1.5)),
        ("redis://[::1]:7/1", RedisAddress("::1", 7, 1)),
        ("rediss://h", RedisAddress("h", tls=TlsOptions())),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=%2Fa%2Fb",
            RedisAddress("h", tls=TlsOptions("/a/b", cert_reqs=ssl.CERT_NONE)),
        ),
        ("redis+socket:///run/r.sock?virtual_host=3", RedisAddress(path="/run/r.sock", db=3)),
        ("redis+socket://:pw@/run/r.sock", RedisAddress(path="/run/r.sock", password="pw")),
    ],
)
def test_parse(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush@h:port/0", "redis://:hush@h/zero", "redis://:hush@h?nonsense=1",
        "redis://:hush@h?ssl_cert_reqs=none", "rediss://:hush@h?ssl_cert_reqs=perhaps",
        "redis://:hush@h?socket_timeout=-1", "redis://:hush@h?socket_timeout=nan", "redis://:hu/sh@h/0",
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        parse_redis_url(url)
    assert "hush" not in str(caught.value)
    assert "sh@" not in str(caught.value)


def test_use_ssl_setting_switches_tls_on() -> None:
    assert parse_redis_url("redis://h", {"ssl_cert_reqs": ssl.CERT_OPTIONAL}).tls == TlsOptions(
        cert_reqs=ssl.CERT_OPTIONAL
    )


def test_a_context_verifies_by_default() -> None:
    context = TlsOptions().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_nothing_printable_holds_the_password() -> None:
    address = parse_redis_url("redis://user:hush@h:1/2")
    assert "hush" not in f"{address} {address!r}"
    assert str(address) == "redis://h:1/2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:hush@h:1/2", "redis://u:**@h:1/2"),
        ("redis://:hush@h", "redis://:**@h"),
        ("redis://:hu/sh@h/1", "redis://**/h/1"),
        ("redis://h?password=hush&db=1", "redis://h?password=**&db=1"),
        ("rpc", "rpc"),
        ("rpc://", "rpc://"),
        ("db+postgresql://user:hush@h/d", "db+postgresql://user:**@h/d"),
        ("db+sqlite:////x", "db+sqlite:////x"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact_backend_url(url) == shown


@pytest.mark.parametrize(
    ("url", "kind"),
    [(None, "disabled"), ("", "disabled"), ("disabled", "disabled"), ("disabled://", "disabled"),
     ("rpc", "rpc"), ("rpc://", "rpc"), ("REDIS://h", "redis"), ("rediss://h", "redis"),
     ("redis+socket:///x", "redis"), ("db+postgresql://h/d", "sql"), ("DB+mysql+pymysql://h/d", "sql"),
     ("db+mariadb://h/d", "sql"), ("db+sqlite:///x", "sql"), ("db+sqlite:////x?timeout=1", "sql")],
)  # fmt: skip
def test_kind(url: str | None, kind: str) -> None:
    assert store_kind(url) == kind


@pytest.mark.row("ST17")
@pytest.mark.parametrize("scheme", ["sentinel", "redis+cluster", "db+oracle", "mongodb", "cache+memory"])
def test_other_stores_are_refused_by_name(scheme: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        open_store(f"{scheme}://user:hush@h", StoreSettings())
    assert scheme in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "near"),
    [("reddis", "redis"), ("rediss+foo", "rediss"), ("rcp", "rpc"), ("redis+sentinal", "redis+sentinel")],
)
def test_the_error_for_an_unknown_store_names_a_similar_known_one(scheme: str, near: str) -> None:
    text = f"result_backend '{re.escape(scheme)}' cannot be used: .*; did you mean '{re.escape(near)}'\\?$"
    with pytest.raises(ImproperlyConfigured, match=text):
        open_store(f"{scheme}://user:hush@h", StoreSettings())
    with pytest.raises(ImproperlyConfigured, match=text):
        open_reader(Settings({"result_backend": f"{scheme}://user:hush@h"}), lambda: "")


def test_open_store() -> None:
    assert isinstance(open_store("redis://h", StoreSettings()), RedisStore)
    assert isinstance(open_store("rpc://", StoreSettings(), publisher=FakePublisher()), RpcStore)
    assert isinstance(open_store(None, StoreSettings()), DisabledStore)
    with pytest.raises(ImproperlyConfigured):
        open_store("rpc://", StoreSettings())


def test_settings_come_from_celerys_names() -> None:
    conf = {
        "result_expires": 60.0, "result_failure_expires": None, "result_persistent": True,
        "result_backend_transport_options": {"global_keyprefix": "app"}, "redis_socket_timeout": 120.0,
        "redis_socket_connect_timeout": None, "redis_backend_use_ssl": None,
    }  # fmt: skip
    settings = store_settings(Settings(conf))
    assert (settings.expires, settings.persistent, settings.global_keyprefix) == (60.0, True, "app")
    assert (settings.reply_timeout, settings.connect_timeout) == (30.0, 10.0)
    assert store_settings(Settings(conf | {"redis_socket_timeout": 2.0})).reply_timeout == 2.0
