"""The pytest configuration of all tests. The fixtures are in `harness/fixtures.py`; servers start at first use."""

from __future__ import annotations

import compileall
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import broker_lanes, celery_env, unit_coverage
from tests.harness.packages import require
from tests.harness.processes import HarnessError

# No test checks how long something took: the machine may be five times slower, and coverage slows it again. Examples
# that take too long to make are found by the time limit of each test.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# A shell that starts a run in the background lets it ignore Ctrl-C, which all programs that tests start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_coverage = unit_coverage.begin()  # before the fixtures import anything of turbo
pytest_plugins = ["tests.harness.fixtures"]

_UNIT = Path(__file__).parent / "unit"
_PACKAGE = Path(__file__).parents[1] / "turbo"
_LANE = pytest.StashKey[broker_lanes.Lane]()
#: Fixture and the package whose program it starts or names.
_SERVERS = {
    "rabbitmq": "rabbitmq-server",
    "redis_server": "redis-server",
    "postgres": "postgresql",
    "mariadb": "mariadb-server",
    "systemd_analyze": "systemd",
    "chromedriver": "chromium-driver",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the version of RabbitMQ and for coverage."""
    parser.addoption(
        unit_coverage.OPTION, action="store_true", help="measure what the unit tests cover; it must be enough"
    )
    parser.addoption(
        "--rabbitmq",
        metavar="VERSION",
        default=os.environ.get(broker_lanes.VERSION) or None,
        help=f"RabbitMQ to test with: {', '.join(broker_lanes.RELEASES)}; by default {broker_lanes.VERSION}, or the "
        "machine's own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Build the version in `--rabbitmq` before a test waits for it; end the run if that fails."""
    if _coverage is not None:
        config.pluginmanager.register(_coverage)
    if config.option.rabbitmq is None or config.option.collectonly:
        return
    try:
        config.stash[_LANE] = broker_lanes.lane(config.option.rabbitmq)
    except HarnessError as error:
        pytest.exit(str(error), returncode=3)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the short tests last, so that the processes of pytest-xdist end at about the same time."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.is_relative_to(_UNIT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the RabbitMQ that the tests used, if `--rabbitmq` was given."""
    if _LANE in config.stash:
        terminalreporter.write_line(f"Tested with {config.stash[_LANE]}.")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile turbo and install the servers once, before the processes of pytest-xdist start.

    If Python writes no bytecode, each of the hundreds of workers in the tests would compile turbo again.
    """
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        compileall.compile_dir(_PACKAGE, quiet=2, workers=0)
    if session.config.option.numprocesses:
        for package in _SERVERS.values():
            require(package)
        celery_env.prepare()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install missing servers before the first test, since that can take longer than a test's time limit."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture, package in _SERVERS.items():
        if fixture in wanted:
            require(package)
