"""Runs an example of the repository by the commands of its README, in a copy of its directory."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.packages import require
from tests.harness.postgres import Postgres
from tests.harness.processes import free_port
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Readme:
    """The README of the example ``name``."""

    name: str

    @property
    def directory(self) -> Path:
        return EXAMPLES / self.name

    @property
    def text(self) -> str:
        return (self.directory / "README.md").read_text()

    @property
    def commands(self) -> list[str]:
        """Return its blocks of commands, in order."""
        return [block.strip() for block in re.findall(r"^```bash\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)]

    @property
    def installed(self) -> set[str]:
        """Return the packages that its requirements name."""
        lines = (self.directory / "requirements.txt").read_text().splitlines()
        return {re.split(r"[\[>]", line)[0] for line in lines if not line.startswith("#")}


@dataclass(frozen=True, slots=True)
class Example:
    """An example in a directory, with its own broker and database."""

    directory: Path
    env: dict[str, str]
    postgres: Postgres

    def run(self, command: str) -> str:
        """Run commands of the README in a shell, up to the first that fails; return their standard output."""
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{command}"], cwd=self.directory, env=self.env,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def process(self, command: str) -> WorkerProcess:
        """Return a long-running command of the README, not started."""
        return WorkerProcess(directory=self.directory, env=self.env, command=("bash", "-c", f"exec {command}"))

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.postgres.query(self.env["PGDATABASE"], statement, *values)

    def end_connections(self) -> None:
        """End every connection of other processes to the database."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def copied(
    readme: Readme,
    settings: str,
    more: Mapping[str, str],
    *,
    rabbitmq: RabbitMQ,
    postgres: Postgres,
    place: Path,
) -> Iterator[Example]:
    """A copy of the example under ``place``; the variables in ``settings`` name its servers.

    ``settings`` is the README's command that sets them; ``more`` are those besides broker, port and database.
    """
    require("curl")
    rabbitmq.ensure_running()
    vhost = rabbitmq.new_vhost()
    directory = place / readme.name
    shutil.copytree(readme.directory, directory, ignore=shutil.ignore_patterns("__pycache__"))
    own = {"BROKER_URL": vhost, "PORT": str(free_port()), **postgres.environment(postgres.new_database()), **more}
    assert set(re.findall(r"(\w+)=", settings)) == own.keys(), "what the README lets one say is what the tests say"
    path = [str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **os.environ, **own, "C_FORCE_ROOT": "1",
        "PATH": f"{_programs(place / 'bin')}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(path),
    }  # fmt: skip
    yield Example(directory, env, postgres)
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


def _programs(directory: Path) -> Path:
    """Make a directory with the programs in the README's commands, from the test environment."""
    directory.mkdir()
    for name, module in (("python", ""), ("turbo", "-m turbo"), ("celery", "-m celery")):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    return directory
