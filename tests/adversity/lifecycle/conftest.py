"""A worker of the torture app in its own virtual host, and a producer for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from turbo import Turbo

READY = r"ready\.$"
MakeWorker = Callable[..., WorkerProcess]


def wait_reachable(app: Turbo, *nodes: str) -> None:
    """Wait until these workers answer. One whose connection is slow is ready before it does."""
    for node in nodes:
        wait_until(f"{node} answers", lambda node=node: bool(app.control.ping([node], timeout=5)), 60)  # type: ignore[misc]


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
