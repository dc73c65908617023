"""Producers of two Celery versions, the worker subprocess and the oracle, against Celery's own worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness.celery_env import celery_producer
from tests.harness.oracle import Leftovers, Oracle, check_queues_settled
from tests.harness.oracle_record import record
from tests.harness.processes import HarnessError
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

TASKS = """
import os
from celery import Celery
from tests.harness.oracle_record import record
app = Celery("t", broker=os.environ["BROKER"])
app.conf.worker_enable_remote_control = False

@app.task(bind=True, name="note", ignore_result=True)
def note(self):
    record("start", self.request.id)
    record("end", self.request.id)
"""
SEND = """
    import sys, celery
    app = celery.Celery(broker=sys.argv[1])
    print(celery.__version__, *[app.send_task("note").id for _ in range(5)])
"""


def test_real_producers_of_two_versions_and_a_real_worker(
    rabbitmq: RabbitMQ, vhost: str, oracle: Oracle, leftovers: Leftovers, tmp_path: Path, celery53: Path
) -> None:
    assert celery53.exists()
    old, *ids = celery_producer("5.3", SEND, vhost).split()
    new, *more = celery_producer("current", SEND, vhost).split()
    assert (old[:3], new[:3]) == ("5.3", "5.7")
    (tmp_path / "tasks.py").write_text(TASKS)
    celery = (
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "celery",
        "-A",
        "tasks",
        "worker",
        "-l",
        "INFO",
        "-c",
        "1",
    )
    with WorkerProcess(
        "--without-gossip",
        "--without-mingle",
        directory=tmp_path,
        env={**oracle.env, "BROKER": vhost},
        command=celery,
    ) as worker:
        worker.wait_for_line("ready")
        oracle.wait_ids("end", [*ids, *more])
        assert worker.children()
        leftovers.watch(worker.children())
        check_queues_settled(rabbitmq, vhost, ["celery"], consumers=1)
        worker.terminate()
        assert worker.wait() == 0
    oracle.check_nothing_vanished([*ids, *more])
    oracle.check_started_once()
    oracle.check_no_overlap()
    leftovers.check()


def test_the_oracle_finds_what_it_is_for(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in oracle.env.items():
        monkeypatch.setenv(name, value)
    for event, identifier in (("start", "a"), ("start", "b"), ("end", "b"), ("start", "b"), ("end", "b")):
        record(event, identifier)
    with pytest.raises(AssertionError, match="I1.*'a'"):
        oracle.check_nothing_vanished(["a", "b"])
    with pytest.raises(AssertionError, match="I2.*'b'"):
        oracle.check_started_once()
    with pytest.raises(AssertionError, match="I3.*'b'"):
        oracle.check_repeats_only(["a"])
    oracle.check_no_overlap()
    with oracle.path.open("a") as file:
        file.write("start|c|0|1|100\nstart|c|0|2|150\nend|c|0|1|200\nend|c|0|2|250\n")
    with pytest.raises(AssertionError, match="I4.*'c'"):
        oracle.check_no_overlap()
    with pytest.raises(AssertionError, match="1 missing"):
        oracle.wait_ids("end", ["a", "b"], timeout=0.1)


def test_a_worker_that_never_says_it(tmp_path: Path) -> None:
    with WorkerProcess(directory=tmp_path, command=(sys.executable, "-c", "print('hello')")) as worker:
        worker.wait_for_line("hel+o")
        with pytest.raises(HarnessError, match="it ended"):
            worker.wait_for_line("goodbye")
        assert worker.wait() == 0
