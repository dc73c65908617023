"""A directory and servers for a Celery app that turbo's and Celery's workers run unmodified."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.integration.adopted.place import Place


@pytest.fixture
def place(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An empty directory, virtual host and database."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    found = Place(rabbitmq, vhost, redis_server.new_database(), tmp_path_factory.mktemp("adopted"))
    yield found
    found.close()
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)
