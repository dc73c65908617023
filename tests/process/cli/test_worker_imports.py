"""What a worker has imported before it forks is in the memory of every child."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What only the master uses.
OF_THE_MASTER = (
    "pika", "psutil", "turbo.amqp.consume", "turbo.control.service", "turbo.master.assembly", "turbo.master.main",
    "turbo.native.commands", "turbo.native.hooks", "turbo.worker.master_process",
)  # fmt: skip
#: What only some commands, settings or mistakes need.
RARELY_USED = ("difflib", "tomllib", "turbo.beat", "turbo.native.beat", "zoneinfo")


@pytest.fixture(scope="module")
def imported() -> frozenset[str]:
    """The modules that the command imports for an app of turbo's own."""
    script = "import sys, turbo.cli.main, turbo.cli.worker, turbo.native.app; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return frozenset(run.stdout.split())


@pytest.mark.parametrize("module", [*OF_THE_MASTER, *RARELY_USED])
def test_is_not_imported_before_the_fork(imported: frozenset[str], module: str) -> None:
    assert module not in imported


def test_the_executor_is_imported_before_the_fork(imported: frozenset[str]) -> None:
    # Otherwise each child would have a copy of its own.
    assert {"turbo.child.main", "turbo.native.executor"} <= imported
