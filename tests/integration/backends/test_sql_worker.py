"""A turbo worker with results in PostgreSQL, for turbo's and Celery's clients, and while the database is away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pika
import pytest

from tests.harness.fault_proxy import FaultProxy
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.backends.databases import Place
from turbo import Turbo

READY = r"ready\.$"


@pytest.fixture
def place(postgres: Postgres) -> Place:
    return Place("postgresql", postgres.url(postgres.new_database()))


def worker(broker: str, backend: str, directory: Path) -> WorkerProcess:
    return WorkerProcess(
        "-A", "tests.integration.backends.sql_app", "-c", "1", "-l", "info",
        directory=directory, env={"SQL_BROKER": broker, "SQL_BACKEND": backend, "C_FORCE_ROOT": "1"},
    )  # fmt: skip


@pytest.fixture
def ours(vhost: str, place: Place) -> Iterator[Turbo]:
    with Turbo("ours", broker=vhost, backend=place.backend, set_as_current=False, result_extended=True) as app:
        yield app
        app.backend.close()


@pytest.mark.row("ST20", "CV8", "EC2")
def test_both_clients_and_a_worker(place: Place, vhost: str, ours: Turbo, tmp_path: Path) -> None:
    theirs = celery.Celery("theirs", broker=vhost, backend=place.backend, set_as_current=False)
    theirs.conf.update(result_extended=True, result_chord_retry_interval=0.2)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with worker(vhost, place.backend, tmp_path) as process:
        process.wait_for_line(READY)
        sums = [ours.send_task("add", (number, 1)) for number in range(100)]
        assert [each.get(timeout=60) for each in sums] == list(range(1, 101))
        assert (sums[3].name, sums[3].args, sums[3].queue) == ("add", [3, 1], "celery")
        failed = ours.send_task("fail", ("no",))
        with pytest.raises(ValueError, match="no"):
            failed.get(timeout=60)
        assert "raise ValueError" in (failed.traceback or "")
        running = ours.send_task("progress", (str(gate),))
        wait_until("the state is set", lambda: running.state == "PROGRESS", 60)
        assert theirs.AsyncResult(running.id).info == {"percent": 50}
        gate.write_text("over")
        assert running.get(timeout=60) == "over"
        killed = ours.send_task("die").get(timeout=60, propagate=False)
        assert type(killed).__name__ == "WorkerLostError"

        add: Any = theirs.signature("add")
        assert celery.group([add.clone((n, n)) for n in range(10)], app=theirs)().get(timeout=60) == list(
            range(0, 20, 2)
        )
        with pytest.raises(ValueError, match="theirs"):
            theirs.send_task("fail", ("theirs",)).get(timeout=60)
        # Celery's client sends the task that polls, since it cannot count in a database.
        body = celery.chord([add.clone((n, 1)) for n in range(5)], app=theirs)(theirs.signature("total"))
        assert body.get(timeout=60) == sum(range(1, 6))
        place.rows("UPDATE celery_taskmeta SET date_done = '2000-01-01' WHERE task_id = :id", id=sums[0].id)
        ours.send_task("celery.backend_cleanup").get(timeout=60)
        assert ours.AsyncResult(sums[0].id).state == "PENDING"
        assert ours.AsyncResult(sums[1].id).state == "SUCCESS"
    theirs.close()


@pytest.mark.row("ST20", "P22")
def test_nothing_is_acknowledged_before_it_is_stored(
    place: Place, postgres: Postgres, vhost: str, ours: Turbo, tmp_path: Path
) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    channel = connection.channel()
    with FaultProxy(postgres.port) as proxy:
        backend = place.backend.replace(str(postgres.port), str(proxy.port))
        with worker(vhost, backend, tmp_path) as process:
            process.wait_for_line(READY)
            assert ours.send_task("add", (1, 1)).get(timeout=60) == 2
            proxy.refuse()
            sent = [ours.send_task("add", (number, 1)) for number in range(3)]
            for each in sent:
                process.wait_for_line(rf"add\[{each.id}\] succeeded")
            process.wait_for_line("Cannot reach postgresql://")
            process.kill()

        def returned() -> int:
            return int(channel.queue_declare("celery", passive=True).method.message_count)

        wait_until("all messages are back", lambda: returned() == 3, 60)
        proxy.pass_through()
        with worker(vhost, backend, tmp_path) as process:
            process.wait_for_line(READY)
            assert [each.get(timeout=60) for each in sent] == [1, 2, 3]
    connection.close()


def test_an_unusable_database_stops_the_worker_at_its_start(vhost: str, tmp_path: Path) -> None:
    with worker(vhost, "db+postgresql+nosuch://user:hush@h/d", tmp_path) as process:
        assert process.wait(60) == 1
        assert "result_backend" in process.output
        assert "nosuch" in process.output
        assert "hush" not in process.output
