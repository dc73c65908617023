"""``examples/django`` as its README says: every command of it, on real servers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.packages import require
from tests.harness.postgres import Postgres
from tests.harness.processes import free_port, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "django"
README = (EXAMPLE / "README.md").read_text()
BLOCKS = [block.strip() for block in re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]
INSTALL, SETTINGS, MIGRATE, WEB, WORKER, BEAT, ORDER, REFUSED = BLOCKS

pytestmark = pytest.mark.timeout(240)  # two servers, three processes and a database are set up once


@dataclass(frozen=True, slots=True)
class Shop:
    """The running example."""

    directory: Path
    env: dict[str, str]
    postgres: Postgres
    worker: WorkerProcess

    def run(self, command: str) -> str:
        """Run a command of the README's in the shell; its standard output."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.directory, env=self.env,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.postgres.query(self.env["PGDATABASE"], statement, *values)

    def order(self) -> int:
        """Place an order; its number, when the worker has confirmed it."""
        number: int = json.loads(self.run(ORDER.splitlines()[0]))["order"]
        self.wait(number, "confirmed")
        return number

    def wait(self, number: int, state: str) -> None:
        def reached() -> bool:
            return self.query("SELECT state FROM orders_order WHERE id = %s", number) == [(state,)]

        wait_until(f"order {number} is {state}", reached, 60)


def programs(directory: Path) -> Path:
    """A directory with what the README's commands are, of the environment that runs the tests."""
    directory.mkdir()
    for name, module in (("python", ""), ("turbo", "-m turbo"), ("celery", "-m celery")):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    return directory


def process(command: str, shop: Path, env: dict[str, str]) -> WorkerProcess:
    return WorkerProcess(directory=shop, env=env, command=("bash", "-c", f"exec {command}"))


@pytest.fixture(scope="module")
def shop(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    require("curl")
    rabbitmq.ensure_running()
    vhost = rabbitmq.new_vhost()
    place = tmp_path_factory.mktemp("example")
    directory = place / "shop"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    own = {"BROKER_URL": vhost, "PORT": str(free_port()), **postgres.environment(postgres.new_database())}
    env = {
        **os.environ, **own, "C_FORCE_ROOT": "1",
        "PATH": f"{programs(place / 'bin')}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip
    assert set(re.findall(r"(\w+)=", SETTINGS)) == own.keys(), "what the README lets one say is what the tests say"
    worker = process(WORKER, directory, env)
    made = Shop(directory, env, postgres, worker)
    made.run(MIGRATE)
    made.run("python manage.py makemigrations --check --dry-run")
    with process(WEB, directory, env) as web, worker, process(BEAT, directory, env) as beat:
        web.wait_for_line(r"Starting development server", timeout=60)
        worker.wait_for_line(r"ready\.$", timeout=60)
        beat.wait_for_line(r"beat: Starting", timeout=60)
        yield made
        worker.terminate()
        assert worker.wait() == 0
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


def test_what_is_to_be_installed_is_what_the_tests_use() -> None:
    assert INSTALL == "pip install -r requirements.txt"
    wanted = {re.split(r"[\[>]", line)[0] for line in (EXAMPLE / "requirements.txt").read_text().splitlines()}
    assert wanted == {"celery", "django", "psycopg", "turbo-worker"}


@pytest.mark.row("DJ7", "DJ11")
def test_an_order_is_confirmed_after_its_commit(shop: Shop) -> None:
    placed, confirmed = [json.loads(text) for text in re.findall(r"`(\{.*?\})`", README)]
    place, show = ORDER.splitlines()
    assert json.loads(shop.run(place)) == placed
    shop.wait(placed["order"], "confirmed")
    assert json.loads(shop.run(show)) == confirmed


@pytest.mark.row("DJ7")
def test_what_is_rolled_back_sends_nothing(shop: Shop) -> None:
    orders = shop.query("SELECT count(*) FROM orders_order")
    seen = shop.worker.mark()
    assert "refused" in json.loads(shop.run(REFUSED))
    assert shop.query("SELECT count(*) FROM orders_order") == orders
    shop.order()
    # Had the refused order sent a message, it would have come before the other's.
    lines = shop.worker.output.splitlines()[seen:]
    assert len([line for line in lines if re.search(r"orders\.tasks\.confirm.* received", line)]) == 1


@pytest.mark.row("EC1")
def test_beat_has_what_is_forgotten_closed(shop: Shop) -> None:
    ((forgotten,),) = shop.query(
        "INSERT INTO orders_order (item, amount, state, placed_at) "
        "VALUES ('letter', 1, 'placed', now() - interval '2 hours') RETURNING id"
    )
    shop.wait(forgotten, "closed")


@pytest.mark.row("DJ5")
def test_the_next_order_survives_the_end_of_every_connection(shop: Shop) -> None:
    for _ in range(4):
        shop.order()
    shop.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(4):  # more than there are children
        shop.order()
