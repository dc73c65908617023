"""Everything wrong that RabbitMQ will deliver, published to a running worker, one after the other.

Each message is rejected without requeue (a dead-letter queue sees it), says so in one line that holds nothing raw
from the wire, leaves FAILURE where it has an id, and costs neither the worker nor a child. A good message after it
runs at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.compat.conftest import Place, fresh_place, turbo_worker
from tests.data import malformed
from tests.data.malformed import CASES, Case
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo.amqp.topology import Queue
from turbo.app.base import Turbo
from turbo.exceptions import OperationalError
from turbo.policy.publish_retry import ONCE
from turbo.protocol.properties import decode_header
from turbo.protocol.table import TableError

#: What RabbitMQ itself does not take from a publisher.
REFUSED_BY_BROKER = {"unknown_field_type", "infinite_header", "timelimit_nan", "timelimit_infinite", "expires_nan"}
#: RabbitMQ 4 delivers the first of two equal header names alone, RabbitMQ 3 both, of which the last counts.
FIRST_COUNTS = {"duplicate_task": "reject", "duplicate_task_broken": "run"}
WORK = Queue("celery", queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
DEAD = Queue("dead")
#: A log line of the process that wrote it; what the wire holds must never begin one.
LINE = re.compile(r"^\[[-\d]+ [\d:,]+: [A-Z]+/[\w-]+\] ")
LONGEST_LINE = 1500


@dataclass
class Rig:
    """A running worker, a raw publisher, and the counts of what must be there."""

    place: Place
    rabbitmq: RabbitMQ
    worker: WorkerProcess
    app: Turbo
    dead: int = 0
    sent: int = 0

    def publish(self, header: bytes, body: bytes) -> None:
        self.app.sending.publishing.client().publish("", "celery", header, body, declare=(WORK, DEAD), retry=ONCE)

    def good(self) -> float:
        """Send a good message and wait for it; the seconds that took."""
        self.sent += 1
        name = f"good-{self.sent}"
        began = Stopwatch()
        self.app.send_task("mark", (name,), queue="celery", ignore_result=True)
        self.place.oracle.wait_ids("start", [name], 60)
        return began.seconds

    def settled(self) -> None:
        self.rabbitmq.wait_queue("celery", self.place.broker, ready=0, unacked=0, timeout=60)
        self.rabbitmq.wait_queue("dead", self.place.broker, ready=self.dead, timeout=60)


def rig(place: Place, rabbitmq: RabbitMQ, *accept: str) -> Iterator[Rig]:
    queues = {"celery": {"queue_arguments": WORK.queue_arguments}, "dead": {}}
    app = Turbo("raw", broker=place.broker, set_as_current=False, task_queues=[WORK, DEAD])
    with turbo_worker(place, "-Q", "celery", accept_content=list(accept), task_queues=queues) as worker, app:
        made = Rig(place, rabbitmq, worker, app)
        made.good()
        yield made


@pytest.fixture(scope="module")
def ordinary(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A worker that accepts all but pickle."""
    directory: Path = tmp_path_factory.mktemp("malformed")
    with fresh_place(rabbitmq, directory, redis_server.new_database()) as place:
        yield from rig(place, rabbitmq, "json", "yaml", "msgpack", "text/plain")


@pytest.fixture
def trusting(place: Place, rabbitmq: RabbitMQ) -> Iterator[Rig]:
    """A worker that accepts pickle too."""
    yield from rig(place, rabbitmq, "json", "pickle")


def known_id(case: Case) -> str | None:
    """The id that a message's headers hold, if they can be read."""
    try:
        properties, _size = decode_header(case.header())
    except TableError:
        return None
    found = (properties.headers or {}).get("id")
    return found if isinstance(found, str) and found else None


def complaints(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r"^\[[^]]*: (WARNING|ERROR|CRITICAL)/", line)]


@pytest.mark.row("WP2", "WP7", "WP8", "WP22", "TM3", "P27")
@pytest.mark.parametrize("case", [case for case in CASES if not case.accept_all], ids=lambda case: case.name)
def test_a_malformed_message(ordinary: Rig, case: Case) -> None:
    worker, place = ordinary.worker, ordinary.place
    settlement = case.settlement
    if ordinary.rabbitmq.version >= (4, 0):
        settlement = FIRST_COUNTS.get(case.name, settlement)
    children = {child.pid for child in worker.children()}
    mark = worker.mark()
    ran = len(place.oracle.ids("ran"))
    with redis.Redis.from_url(place.backend) as store:
        store.flushdb()
        try:
            ordinary.publish(case.header(), case.body())
        except OperationalError:
            assert case.name in REFUSED_BY_BROKER
            return
        assert case.name not in REFUSED_BY_BROKER
        took = ordinary.good()
        ordinary.dead += settlement == "reject"
        ordinary.settled()
        expected = int(settlement != "run")
        # The message is settled before its line has come through the pipe and this process's reader.
        wait_until("its line", lambda: len(complaints(worker.output.split("\n")[mark:])) >= expected, 60)
        lines = worker.output.split("\n")[mark:]
        if settlement == "run":
            place.oracle.wait_count("ran", ran + 1, 60)
            assert complaints(lines) == []
        else:
            assert len(place.oracle.ids("ran")) == ran
            assert len(complaints(lines)) == 1, lines
            task_id = known_id(case)
            if task_id is not None:
                document = store.get(f"celery-task-meta-{task_id}")
                assert document is not None and b'"status":"FAILURE"' in document.replace(b'": "', b'":"')
    assert all(LINE.match(line) and line.isprintable() and len(line) < LONGEST_LINE for line in lines), lines
    assert took < 1.0
    assert worker.process.poll() is None
    assert {child.pid for child in worker.children()} == children


@pytest.mark.row("P27", "WP6")
@pytest.mark.parametrize(("name", "lost"), [("pickle_exits", True), ("pickle_raises", True), ("pickle_broken", False)])
def test_malformed_pickle_costs_a_child_at_most(trusting: Rig, name: str, lost: bool) -> None:
    case = next(case for case in CASES if case.name == name)
    worker = trusting.worker
    children = {child.pid for child in worker.children()}
    mark = worker.mark()
    trusting.publish(case.header(), case.body())
    assert trusting.good() < 1.0
    trusting.dead += 1
    trusting.settled()
    with redis.Redis.from_url(trusting.place.backend) as store:
        document = store.get(f"celery-task-meta-{known_id(case)}")
    assert document is not None and b"FAILURE" in document
    assert all(LINE.match(line) and line.isprintable() for line in worker.output.split("\n")[mark:])
    assert worker.process.poll() is None
    if lost:
        wait_until("children are back", lambda: len(worker.children()) == len(children), 60)
    assert ({child.pid for child in worker.children()} != children) == lost


@pytest.mark.row("WP21", "P28")
def test_a_task_whose_unknown_name_forges_log_lines(ordinary: Rig) -> None:
    mark = ordinary.worker.mark()
    name = "x\n[2020-01-01 00:00:00,000: ERROR/MainProcess] forged\x1b[2J" + "y" * 5000
    table = malformed.headers(task=name, id="forged")
    ordinary.publish(malformed.header(table, body=malformed.PLAIN_BODY), malformed.PLAIN_BODY)
    assert ordinary.good() < 1.0
    ordinary.dead += 1
    ordinary.settled()
    wait_until("its line", lambda: bool(complaints(ordinary.worker.output.split("\n")[mark:])), 60)
    lines = ordinary.worker.output.split("\n")[mark:]
    assert all(LINE.match(line) and line.isprintable() and len(line) < LONGEST_LINE for line in lines), lines
    assert len(complaints(lines)) == 1
    found: Callable[[str], bytes | None]
    with redis.Redis.from_url(ordinary.place.backend) as store:
        found = store.get  # type: ignore[assignment]
        assert b"NotRegistered" in (found("celery-task-meta-forged") or b"")
