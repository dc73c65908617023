"""A virtual host and a database per module; the tests of a module share one worker and run in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.integration.worker.site import Site


@pytest.fixture(scope="module")
def site(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The environment of a worker; the module starts the worker with the options that it tests."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    place = Site(rabbitmq, vhost, redis_server.new_database(), tmp_path_factory.mktemp("site"))
    yield place
    place.close()
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)
