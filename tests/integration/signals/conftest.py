"""A virtual host and a database for each worker of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.integration.signals.scene import READY, Scene


@contextmanager
def _scene(
    rabbitmq: RabbitMQ, redis_server: RedisServer, factory: pytest.TempPathFactory, receivers: str
) -> Iterator[Scene]:
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    scene = Scene(vhost, redis_server.new_database(), factory.mktemp("signals"), receivers)
    with scene.worker:
        scene.worker.wait_for_line(READY if "logging" not in receivers else "MINE .*ready")
        yield scene
    scene.client.close()
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(scope="package")
def quiet(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A worker without receivers; only the handlers of tasks run."""
    with _scene(rabbitmq, redis_server, tmp_path_factory, "") as scene:
        yield scene


@pytest.fixture(scope="package")
def heard(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A worker with a receiver for every signal; the last test shuts it down."""
    with _scene(rabbitmq, redis_server, tmp_path_factory, "task worker") as scene:
        yield scene


@pytest.fixture(scope="package")
def bad(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A worker with receivers that raise or never return."""
    with _scene(rabbitmq, redis_server, tmp_path_factory, "bad logging") as scene:
        yield scene
