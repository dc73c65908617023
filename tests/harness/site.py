"""A place for workers of one kind of app: a virtual host, a store, and a Celery client of both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from celery import Celery

from tests.harness.processes import PATIENCE, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer


class Site:
    """What the sites of all tests have."""

    #: Seconds within which a task has a state.
    patience = PATIENCE

    def __init__(self, kind: str, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        self.kind = kind
        self.rabbitmq = rabbitmq
        self.vhost = vhost
        self.directory = directory
        self.client = Celery("client", broker=vhost, backend=redis_db, set_as_current=False)

    def state(self, identifier: str) -> str:
        """Return the stored state of a task."""
        state: str = self.client.AsyncResult(identifier).state
        return state

    def wait_state(self, identifier: str, state: str) -> None:
        """Wait until a task has this stored state."""
        wait_until(f"{identifier} is {state}", lambda: self.state(identifier) == state, self.patience)

    def close(self) -> None:
        """Close the client's connections."""
        self.client.close()


T = TypeVar("T", bound=Site)


@contextlib.contextmanager
def making(
    made_by: Callable[[str, RabbitMQ, str, str, Path], T],
    rabbitmq: RabbitMQ,
    redis_server: RedisServer,
    directories: pytest.TempPathFactory,
) -> Iterator[Callable[[str], T]]:
    """Yield a function that makes a site for a kind; remove them all at the end."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    made: list[T] = []

    def make(kind: str) -> T:
        vhost = rabbitmq.new_vhost()
        made.append(made_by(kind, rabbitmq, vhost, redis_server.new_database(), directories.mktemp("site")))
        return made[-1]

    yield make
    for site in made:
        site.close()
        rabbitmq.ensure_running()
        rabbitmq.delete_vhost(site.vhost)
