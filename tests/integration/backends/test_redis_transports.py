"""The Redis store and reader over a Unix socket and over TLS, and the store's contract over a real server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.harness.packages import require
from tests.harness.processes import end, free_port, spawn, wait_until
from tests.unit.backends.store_contract import exercise_store
from turbo.backends.reader_settings import ReaderSettings
from turbo.backends.redis.client import RedisReader
from turbo.backends.redis.store import RedisStore
from turbo.backends.store import ResultWrite, StoreOutcome, StoreSettings
from turbo.backends.url import parse_redis_url
from turbo.result.async_result import AsyncResult


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a self-signed certificate for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", directory / "key.pem", "-out", directory / "cert.pem",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def tls_port(place: Path) -> Iterator[int]:
    """A Redis that speaks TLS on the port and plainly on ``place/redis.sock``."""
    port = free_port()
    server = spawn(
        [require("redis-server"), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1",
         "--tls-cert-file", place / "cert.pem", "--tls-key-file", place / "key.pem",
         "--tls-ca-cert-file", place / "cert.pem", "--tls-auth-clients", "no",
         "--unixsocket", place / "redis.sock", "--save", "", "--requirepass", "pä:ss/word"],
        cwd=place,
    )  # fmt: skip

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return (place / "redis.sock").exists()

    try:
        wait_until("Redis with TLS listens", listens, 60)
        yield port
    finally:
        end(server)


def round_trip(url: str) -> None:
    outcomes: list[StoreOutcome] = []

    async def run() -> None:
        store = RedisStore(parse_redis_url(url), StoreSettings())
        await store.start()
        store.store(ResultWrite("t", b'{"status": "SUCCESS", "result": "through"}'), outcomes.append)
        big = b'{"status": "SUCCESS", "result": "%b"}' % (b"x" * 3_000_000)
        store.store(ResultWrite("big", big), outcomes.append)
        assert await store.drain(time.monotonic() + 60)
        await store.stop(time.monotonic() + 1)

    uvloop.run(run())
    assert outcomes == [StoreOutcome.STORED] * 2
    reader = RedisReader(url, ReaderSettings())
    assert AsyncResult("t", backend=reader).get(timeout=60) == "through"
    assert len(AsyncResult("big", backend=reader).get(timeout=60)) == 3_000_000
    reader.close()


def test_unix_socket(place: Path, tls_port: int) -> None:
    round_trip(f"redis+socket://:p%C3%A4%3Ass%2Fword@{place}/redis.sock?virtual_host=3")


def test_tls(place: Path, tls_port: int) -> None:
    certificate = str(place / "cert.pem").replace("/", "%2F")
    round_trip(f"rediss://:p%C3%A4%3Ass%2Fword@127.0.0.1:{tls_port}/2?ssl_ca_certs={certificate}")


def test_an_unknown_certificate_is_refused(tls_port: int, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        store = RedisStore(parse_redis_url(f"rediss://:hush@127.0.0.1:{tls_port}/2"), StoreSettings())
        await store.start()
        while not caplog.text:
            await asyncio.sleep(0.01)
        assert not store.connected
        await store.stop(time.monotonic())

    uvloop.run(run())
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert "hush" not in caplog.text


def test_the_store_keeps_the_contract_over_a_real_redis(redis_url: str) -> None:
    async def run() -> None:
        await exercise_store(RedisStore(parse_redis_url(redis_url), StoreSettings()))

    uvloop.run(run())
