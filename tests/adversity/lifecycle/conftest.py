"""A worker of the torture app in its own virtual host, and a producer for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.oracle import Oracle
from tests.harness.worker import WorkerProcess

READY = r"ready\.$"
MakeWorker = Callable[..., WorkerProcess]


@pytest.fixture
def make_worker(tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle) -> MakeWorker:
    """Return a function that makes a worker, not started; ``broker`` replaces the virtual host's URL."""

    def make(
        *options: str, broker: str | None = None, env: dict[str, str] | None = None, **more: object
    ) -> WorkerProcess:
        surroundings = {
            "TORTURE_BROKER": broker or vhost,
            "TORTURE_BACKEND": redis_db,
            **oracle.env,
            **(env or {}),
        }
        command = ("-A", "tests.adversity.torture.tasks", "-l", "info", *options)
        return WorkerProcess(*command, directory=tmp_path, env=surroundings, **more)  # type: ignore[arg-type]

    return make
