"""One worker with its environment: queues, dead letters and stored results."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import redis
from pika.adapters.blocking_connection import BlockingChannel

from tests.harness.oracle import ORACLES, SHARED_MEMORY, Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from tests.integration.worker.tasks import CLASSIC, DEAD, QUORUM
from turbo import Turbo

READY = r"ready\.$"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected message."""

    id: str
    headers: dict[str, Any]
    #: ``x-death``'s reason, and the queue that it was rejected from.
    reason: str
    queue: str


class Site:
    """The worker, its broker and its store."""

    def __init__(self, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        self.rabbitmq = rabbitmq
        self.vhost = vhost
        self.directory = directory
        # In memory: a task that is killed while a busy disk holds its first write up seems never to have begun.
        self._records = tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix=ORACLES)
        self.oracle = Oracle(Path(self._records.name) / "oracle")
        self.store = redis.Redis.from_url(redis_db)
        self.producer = Turbo("producer", broker=vhost, backend=redis_db, set_as_current=False)
        self._connection = pika.BlockingConnection(pika.URLParameters(vhost))
        self.channel: BlockingChannel = self._connection.channel()
        self.channel.confirm_delivery()
        self.channel.queue_declare(DEAD, durable=True)
        self._env = {"WAYS_BROKER": vhost, "WAYS_BACKEND": redis_db, **self.oracle.env}
        self.worker: WorkerProcess = self.another()

    def another(
        self,
        *options: str,
        app: str = "tests.integration.worker.tasks",
        level: str | None = "info",
        env: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        """Return a worker with these options, not started; the default log level without ``level``."""
        command = ("-A", app, *(("-l", level) if level else ()), *options)
        return WorkerProcess(*command, directory=self.directory, env={**self._env, **(env or {})})

    @contextmanager
    def running(self, *options: str) -> Iterator[WorkerProcess]:
        """Run a worker with these options as the site's worker."""
        with self.another(*options) as worker:
            self.worker = worker
            worker.wait_for_line(READY)
            yield worker

    def close(self) -> None:
        """Close the connections of the test."""
        self.producer.close()
        self._connection.close()
        self.store.close()
        self._records.cleanup()

    # -- sending -----------------------------------------------------------------------------------------

    def send(self, task: str, *args: Any, queue: str = CLASSIC, **options: Any) -> str:
        """Send a task; return its id."""
        identifier = str(uuid.uuid4())
        self.producer.send_task(
            task, args, task_id=identifier, exchange=queue, routing_key=queue, exchange_type="direct", **options
        )
        return identifier

    def send_raw(self, body: bytes, queue: str = CLASSIC, **headers: Any) -> str:
        """Send a message with exactly this body as the task named in ``headers``; return its id."""
        identifier = str(uuid.uuid4())
        properties = pika.BasicProperties(
            headers={"lang": "py", "id": identifier, "root_id": identifier, "parent_id": None, **headers},
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=identifier,
            delivery_mode=2,
        )
        self.channel.basic_publish("", queue, body, properties)
        return identifier

    def fifo(self) -> Path:
        """Make a FIFO; a task waits until something is written to it."""
        place = self.directory / f"fifo-{uuid.uuid4().hex[:8]}"
        os.mkfifo(place)
        return place

    # -- asking ------------------------------------------------------------------------------------------

    def wait_started(self, identifier: str, times: int = 1) -> int:
        """Wait until a task was started this many times; return the pid of the last child that did."""
        wait_until(f"{times} starts of {identifier}", lambda: self.starts(identifier) >= times, 60)
        return [trace.pid for trace in self.oracle.traces("start") if trace.id == identifier][-1]

    def starts(self, identifier: str) -> int:
        """Return how often a task was started."""
        return self.oracle.ids("start").count(identifier)

    def document(self, identifier: str) -> dict[str, Any] | None:
        """Return the stored document from Redis."""
        raw = self.store.get(f"celery-task-meta-{identifier}")
        assert raw is None or isinstance(raw, bytes)
        return None if raw is None else json.loads(raw)

    def wait_document(self, identifier: str, timeout: float = 60) -> dict[str, Any]:
        """Wait for the final document of a task."""
        wait_until(f"the outcome of {identifier}", lambda: self._state(identifier) in ("SUCCESS", "FAILURE", "REVOKED"),
                   timeout)  # fmt: skip
        found = self.document(identifier)
        assert found is not None
        return found

    def _state(self, identifier: str) -> str | None:
        found = self.document(identifier)
        return None if found is None else found["status"]

    def wait_settled(self, *queues: str) -> None:
        """Wait until every message in the queues is settled."""
        for queue in queues or (CLASSIC, QUORUM):
            self.rabbitmq.wait_queue(queue, self.vhost, ready=0, unacked=0)

    def dead_letters(self, count: int) -> list[DeadLetter]:
        """Wait until the dead-letter queue holds ``count`` messages; take all of them."""
        self.rabbitmq.wait_queue(DEAD, self.vhost, ready=count)
        found = []
        while True:
            method, properties, _body = self.channel.basic_get(DEAD, auto_ack=True)
            if method is None:
                return found
            headers = dict(properties.headers)
            death = headers["x-death"][0]
            found.append(DeadLetter(headers["id"], headers, death["reason"], death["queue"]))


def end_of_fifo(fifo: Path) -> int:
    """Open the FIFO for writing once the task reads it."""
    return ends_of_fifos([fifo], 1)[fifo]


def ends_of_fifos(fifos: Sequence[Path], count: int) -> dict[Path, int]:
    """Open the first ``count`` of the FIFOs that tasks read for writing."""
    ends: dict[Path, int] = {}

    def are_read() -> bool:
        for fifo in fifos:
            if fifo not in ends and len(ends) < count:
                try:
                    ends[fifo] = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
        return len(ends) == count

    wait_until(f"{count} long tasks run", are_read, 60)
    return ends
