"""``examples/django`` as its README says: every command of it, on real servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.ecosystem.readme_example import Example, Readme, copied
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

README = Readme("django")
INSTALL, SETTINGS, MIGRATE, WEB, WORKER, BEAT, ORDER, REFUSED = README.commands

pytestmark = pytest.mark.timeout(600)  # two servers, three processes and a database are set up once


@dataclass(frozen=True, slots=True)
class Shop:
    """The running example."""

    example: Example
    worker: WorkerProcess

    def run(self, command: str) -> str:
        return self.example.run(command)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.example.query(statement, *values)

    def order(self) -> int:
        """Place an order; its number, when the worker has confirmed it."""
        number: int = json.loads(self.run(ORDER.splitlines()[0]))["order"]
        self.wait(number, "confirmed")
        return number

    def wait(self, number: int, state: str) -> None:
        def reached() -> bool:
            return self.query("SELECT state FROM orders_order WHERE id = %s", number) == [(state,)]

        wait_until(f"order {number} is {state}", reached, 60)


@pytest.fixture(scope="module")
def shop(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    place = tmp_path_factory.mktemp("example")
    with copied(README, SETTINGS, {}, rabbitmq=rabbitmq, postgres=postgres, place=place) as example:
        example.run(MIGRATE)
        example.run("python manage.py makemigrations --check --dry-run")
        with example.process(WEB) as web, example.process(WORKER) as worker, example.process(BEAT) as beat:
            web.wait_for_line(r"Starting development server", timeout=60)
            worker.wait_for_line(r"ready\.$", timeout=60)
            beat.wait_for_line(r"beat: Starting", timeout=60)
            yield Shop(example, worker)
            worker.terminate()
            assert worker.wait() == 0


def test_what_is_to_be_installed_is_what_the_tests_use() -> None:
    assert INSTALL == "pip install -r requirements.txt"
    assert README.installed == {"celery", "django", "psycopg", "../.."}


@pytest.mark.row("DJ7", "DJ11")
def test_an_order_is_confirmed_after_its_commit(shop: Shop) -> None:
    placed, confirmed = [json.loads(text) for text in re.findall(r"`(\{.*?\})`", README.text)]
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
    shop.example.end_connections()
    for _ in range(4):  # more than there are children
        shop.order()
