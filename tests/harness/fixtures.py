"""The pytest fixtures of the harness. Servers start when a test first uses their fixture."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.broker_lanes import lane
from tests.harness.celery_env import celery_python
from tests.harness.embedded import BrokerUnderTest, ThreadedBroker, rabbitmq_under_test
from tests.harness.fault_proxy import FaultProxy
from tests.harness.mariadb import MariaDB
from tests.harness.oracle import ORACLES, SHARED_MEMORY, Leftovers, Oracle
from tests.harness.packages import require
from tests.harness.postgres import Postgres
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RabbitMQ]:
    """The session's private RabbitMQ node, of the version in `--rabbitmq`.

    A test that stops it must start it again.
    """
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"), lane(request.config.option.rabbitmq))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The URL of an empty virtual host for this test."""
    rabbitmq.ensure_running()
    url = rabbitmq.new_vhost()
    yield url
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(url)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's private Redis."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_db(redis_server: RedisServer) -> Iterator[str]:
    """The URL of an empty Redis database for this test."""
    redis_server.ensure_running()
    yield redis_server.new_database()
    redis_server.ensure_running()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's private PostgreSQL."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """The session's private MariaDB."""
    server = MariaDB()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def fault_proxy(rabbitmq: RabbitMQ) -> Iterator[FaultProxy]:
    """A fault proxy in front of the session's RabbitMQ; use `FaultProxy(port)` for other servers."""
    with FaultProxy(rabbitmq.port) as proxy:
        yield proxy


@pytest.fixture
def amqp_url(vhost: str) -> str:
    """The same as `vhost`, for tests that need any broker."""
    return vhost


@pytest.fixture
def redis_url(redis_db: str) -> str:
    """The same as `redis_db`, for tests that need any Redis."""
    return redis_db


@pytest.fixture
def unique() -> str:
    """A unique name for queues, exchanges and files."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def celery53() -> Path:
    """The interpreter of a cached environment with Celery 5.3."""
    return celery_python("5.3")


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    """An empty oracle; pass `oracle.env` to the worker.

    Its file is in memory: a disk that is busy holds a write up, and a task killed in its first write seems never to
    have begun.
    """
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix=ORACLES) as folder:
        yield Oracle(Path(folder) / "oracle")


@pytest.fixture
def leftovers() -> Leftovers:
    """Records what exists before the test; the test calls `check()`."""
    return Leftovers()


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[ThreadedBroker]:
    """The embedded broker, in a thread."""
    server = ThreadedBroker().start()
    yield server
    server.close()


@pytest.fixture(params=["embedded", "rabbitmq"])
def any_broker(request: pytest.FixtureRequest) -> BrokerUnderTest:
    """Each of the two brokers in turn, with an empty virtual host."""
    if request.param == "embedded":
        server: ThreadedBroker = request.getfixturevalue("embedded_server")
        return server.under_test()
    return rabbitmq_under_test(request.getfixturevalue("rabbitmq"), request.getfixturevalue("vhost"))


@pytest.fixture(scope="session")
def chromedriver() -> Path:
    """The program that drives Chromium, which is installed with it."""
    return require("chromium-driver")


@pytest.fixture(scope="session")
def systemd_analyze() -> Path:
    """The program that checks systemd units; systemd need not run."""
    return require("systemd")
