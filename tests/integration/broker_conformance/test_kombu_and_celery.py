"""Real kombu and Celery, on py-amqp, against the embedded broker and RabbitMQ."""

from __future__ import annotations

import sys
from pathlib import Path

import kombu

from tests.harness.celery_env import celery_producer
from tests.harness.embedded import BrokerUnderTest
from tests.harness.oracle import Oracle
from tests.harness.worker import WorkerProcess

TASKS = """
import os
from celery import Celery
from tests.harness.oracle_record import record
app = Celery("t", broker=os.environ["BROKER"], backend="rpc://")

@app.task(bind=True, name="add", acks_late=True)
def add(self, a, b):
    record("start", self.request.id, self.request.retries)
    if self.request.retries < 1:
        self.retry(countdown=0)
    record("end", self.request.id, self.request.retries)
    return a + b
"""
CALL = """
    import sys, celery
    app = celery.Celery("c", broker=sys.argv[1], backend="rpc://")
    results = [app.send_task("add", (n, 1)) for n in range(20)]
    print(sum(result.get(timeout=60) for result in results))
    print(*[result.id for result in results])
    print(sorted(app.control.inspect(timeout=10).ping()))
"""


def test_kombu_produces_and_consumes(any_broker: BrokerUnderTest) -> None:
    with kombu.Connection(any_broker.url, transport_options={"confirm_publish": True}) as connection:
        exchange = kombu.Exchange("tasks", "topic", durable=True)
        queue = kombu.Queue("tasks.q", exchange, routing_key="task.#", max_priority=9)
        got: list[tuple[object, dict[str, object], bool]] = []

        def receive(body: object, message: kombu.Message) -> None:
            got.append((body, message.headers, message.delivery_info["redelivered"]))
            message.requeue() if len(got) == 1 else message.ack()

        producer = connection.Producer()
        producer.publish(
            {"n": 1}, exchange=exchange, routing_key="task.x", declare=[queue], headers={"f": 1.5}, priority=2
        )
        with connection.Consumer([queue], callbacks=[receive], prefetch_count=1):
            while len(got) < 2:
                connection.drain_events(timeout=60)
        assert got == [({"n": 1}, {"f": 1.5}, False), ({"n": 1}, {"f": 1.5}, True)]
        any_broker.wait("tasks.q", ready=0, unacked=0)
        with connection.SimpleQueue("simple") as simple:
            simple.put("x", compression="zlib")
            message = simple.get(timeout=60)
            assert message.payload == "x"
            message.ack()


def test_celery_works_on_it(any_broker: BrokerUnderTest, oracle: Oracle, tmp_path: Path) -> None:
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
        "-c",
        "2",
        "-n",
        "w@h",
        "-E",
    )
    with WorkerProcess(
        "-l", "INFO", directory=tmp_path, env={**oracle.env, "BROKER": any_broker.url}, command=celery
    ) as worker:
        worker.wait_for_line("ready")
        total, ids, nodes = celery_producer("current", CALL, any_broker.url).splitlines()
        assert (total, nodes) == (str(sum(range(1, 21))), "['w@h']")
        any_broker.wait("celery", ready=0, unacked=0)
        worker.terminate()
        assert worker.wait() == 0
    oracle.check_nothing_vanished(ids.split())
    oracle.check_started_once()
