"""A directory and servers for an app of either library, for tests of its worker's processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.integration.adopted.place import Place

#: Every app begins with it; ``LIB`` names the library.
HEAD = """
import os
import signal
import sys
import time

if os.environ.get("LIB") == "celery":
    from celery import Celery
else:
    from turbo import Celery

app = Celery("proj", broker=os.environ["PROJ_BROKER"], backend=os.environ["PROJ_BACKEND"])
"""


@pytest.fixture
def place(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An empty directory, virtual host and database."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    found = Place(rabbitmq, vhost, redis_server.new_database(), tmp_path_factory.mktemp("processes"))
    yield found
    found.close()
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(params=["turbo", "celery"])
def lib(request: pytest.FixtureRequest) -> str:
    """The library of the app, as a parameter."""
    return str(request.param)
