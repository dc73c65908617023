"""Fixtures that every folder of tests may use; `harness/fixtures.py` has them, servers start at first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.harness import celery_env
from tests.harness.packages import require

if TYPE_CHECKING:
    import pytest

# No test judges how long something took: the machine may be five times slower, and coverage slows it again. Examples
# that take too long to make are found by the time limit of each test.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

pytest_plugins = ["tests.harness.fixtures"]

#: Fixture and the package whose program it starts or names.
_SERVERS = {
    "rabbitmq": "rabbitmq-server",
    "redis_server": "redis-server",
    "postgres": "postgresql",
    "systemd_analyze": "systemd",
}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Install all before the processes of pytest-xdist start: they would get in each other's way."""
    if session.config.option.numprocesses:
        for package in _SERVERS.values():
            require(package)
        celery_env.prepare()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what is missing before the first test: an installation takes longer than a test may."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture, package in _SERVERS.items():
        if fixture in wanted:
            require(package)
