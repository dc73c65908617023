"""Workers of both kinds with the tasks of ``apps/compat_tasks.py``, and Celery clients of both versions."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compat.sides import PREFIX, Side, stored
from tests.harness.celery_env import celery_producer
from tests.harness.oracle import Oracle
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import TURBO, WorkerProcess

APPS = Path(__file__).parent / "apps"
ROOT = APPS.parents[2]
CELERY = (sys.executable, "-W", "ignore", "-m", "celery")
VERSIONS = ("5.3", "current")
READY = r"ready\.$"


@dataclass(frozen=True, slots=True)
class Place:
    """A virtual host, a result backend and the oracle of the worker that uses them."""

    broker: str
    backend: str
    oracle: Oracle

    def env(self, lib: str, **settings: Any) -> dict[str, str]:
        return {
            **self.oracle.env,
            "COMPAT_LIB": lib,
            "BROKER": self.broker,
            "BACKEND": self.backend,
            "COMPAT_SETTINGS": json.dumps(settings),
            "PYTHONDONTWRITEBYTECODE": "1",
            "C_FORCE_ROOT": "1",
        }


@contextmanager
def turbo_worker(place: Place, *options: str, **settings: Any) -> Iterator[WorkerProcess]:
    """Start a turbo worker with the tasks; yield it when it is ready."""
    worker = WorkerProcess(
        "-A", "compat_tasks", "-c", "2", "-l", "info", *options,
        directory=APPS, env=place.env("turbo", **settings), command=TURBO,
    )  # fmt: skip
    with worker:
        worker.wait_for_line(READY)
        yield worker


@contextmanager
def celery_worker(place: Place, **settings: Any) -> Iterator[WorkerProcess]:
    """Start a real Celery worker with the same tasks; yield it when it is ready."""
    worker = WorkerProcess(
        "-A", "compat_tasks", "worker", "-c", "2", "-l", "info", "--without-gossip", "--without-mingle",
        directory=APPS, env=place.env("celery", **settings), command=CELERY,
    )  # fmt: skip
    with worker:
        worker.wait_for_line(READY, 90)
        yield worker


def celery_client(version: str, place: Place) -> Side:
    """Run a Celery client that sends and reads everything; return what it read and what is stored."""
    env = {**place.env("celery"), "PYTHONPATH": os.pathsep.join([str(APPS), str(ROOT)])}
    printed = celery_producer(version, (APPS / "celery_side.py").read_text(), PREFIX, env=env, timeout=200)
    told = json.loads(printed.splitlines()[-1])
    assert told["version"].startswith("5.3" if version == "5.3" else "5.7")
    documents = stored(place.backend) if place.backend.startswith("redis") else {}
    return Side(told["outcomes"], documents, frozenset(told["passed"]))


@contextmanager
def fresh_place(rabbitmq: RabbitMQ, directory: Path, backend: str) -> Iterator[Place]:
    rabbitmq.ensure_running()
    broker = rabbitmq.new_vhost()
    try:
        yield Place(broker, backend, Oracle(directory / "oracle"))
    finally:
        rabbitmq.delete_vhost(broker)


@pytest.fixture
def place(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path: Path) -> Iterator[Place]:
    """A place for this test, with Redis."""
    with fresh_place(rabbitmq, tmp_path, redis_server.new_database()) as made:
        yield made
