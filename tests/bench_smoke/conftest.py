"""The servers of the benchmarks, started once for all smoke tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.contenders import prepare
from bench.servers import Servers
from tests.harness.packages import require


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    require("rabbitmq-server")
    require("redis-server")
    prepare(["celery", "dramatiq", "taskiq"])
    with Servers() as running:
        yield running
